"""Facts of each query by which its ranking is broken down; see ``summary.query_groups``."""

import pandas as pd

from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.data.text import words_of


def query_facts(examples: dict[str, ChunkTables], answers: dict[int, list[int]], labels: list[str]) -> pd.DataFrame:
    """Describe each query that has candidates by its words, and by the boxes and the label of its right products."""

    def read(kind: str, columns: list[str]) -> pd.DataFrame:
        tables = (tables[kind].to_table(columns=columns).to_pandas() for tables in examples.values())
        return pd.concat(tables).drop_duplicates(columns[0])

    queries = read("pairs", ["query_id", "query"]).set_index("query_id")["query"]
    right = pd.Series(answers).explode().rename("product_id").rename_axis("query_id").reset_index()
    boxes = right.astype("int64").merge(read("products", ["product_id", "labels"]), on="product_id")
    boxes = boxes.set_index("query_id")["labels"]
    label = boxes.explode().groupby("query_id").agg(lambda numbers: numbers.mode().iloc[0])
    words = queries.map(words_of)
    facts = {
        "query": queries,
        "words": words.str.len(),
        "last_word": words.str[-1],
        "boxes": boxes.str.len().groupby("query_id").mean(),
        "label": label.map(dict(enumerate(labels))),
    }
    return pd.DataFrame(facts).reindex(queries.index).reset_index(names="query_id")
