"""A trained ranker that is loaded once and ranks the products of a split for any number of queries."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from kedro.io import CatalogProtocol

from multimodal_recall.commands.errors import name_environment
from multimodal_recall.commands.find_products import ProductFilter, best_products, fresh_index, search_by_index
from multimodal_recall.commands.products import SearchError, SplitProducts, numbers_of
from multimodal_recall.config.loader import current_configuration
from multimodal_recall.config.options import IngestOptions, QueryOptions
from multimodal_recall.config.resolve import known_rankers
from multimodal_recall.data.official_format import BadRow, decode_query
from multimodal_recall.data.text import strip_leading_token, words_of
from multimodal_recall.models.query_features import QueryEncoder
from multimodal_recall.runs.lineage import pinned
from multimodal_recall.runtime.device import Hardware
from multimodal_recall.runtime.progress import bar

if TYPE_CHECKING:  # torch takes seconds to import
    from multimodal_recall.models.index import ProductIndex
    from multimodal_recall.models.ranker import Ranker


NO_WORD = "(no word)"


@dataclass(frozen=True)
class Searcher:
    """A trained ranker with the products that it ranks; threads may search at the same time."""

    ranker: str
    version: str
    """Version of the ranker's model."""
    card: dict[str, Any]
    """Record of the training."""
    module: "Ranker"
    """In evaluation mode, on the device that computes."""
    encode: QueryEncoder
    cleaning: IngestOptions
    """The cleaning of the queries that the ranker was trained on."""
    products: SplitProducts
    index: "ProductIndex | None"
    how: str
    """Where the products' scores come from."""

    def find(
        self,
        queries: Sequence[str],
        top: int = 10,
        labels: Sequence[str] = (),
        product_ids: Sequence[int] | None = None,
    ) -> pd.DataFrame:
        """Rank the products for each query; see ``commands.search.search``."""
        features, names = self.featurize(queries), self.products.labels
        wanted = ProductFilter(
            numbers_of(labels, names), None if product_ids is None else np.array(product_ids, np.int64)
        )
        if self.index is None:
            best = best_products(self.module, features, self.products.chunks, top, wanted)
        else:
            of = self.products
            best = search_by_index(self.index, self.module, features, of.filtered, top, wanted, of.look_up)
        if best.empty:
            raise SearchError(
                f"no product of {self.products.split} has such a label or id. Name others, or another --split"
            )
        return best.assign(labels=[[names[label] for label in of_product] for of_product in best["labels"]])

    def explain(self, query: str, product_id: int) -> dict[str, float] | None:
        """Give what each word of a query adds to a product's score; ``None`` if the score is no sum over words.

        The score of a product of several chunks is its best, as in ``find``.
        """
        if not self.module.sums_words:
            return None
        features, parts = self.featurize([query]), dict[str, float]()
        scores = max((self._word_scores(features, product) for product in self._stored(product_id)), key=sum)
        words = self.encode.words.read(features["query"][0].as_py()) or [NO_WORD]
        for word, score in zip(words, scores, strict=True):
            parts[word] = parts.get(word, 0.0) + score
        return parts

    @property
    def reads_largest_box(self) -> bool:
        """Whether the ranker sees a product as its largest box alone."""
        from multimodal_recall.models.layers.kernel_features import KernelFeatures
        from multimodal_recall.models.layers.largest_box import LargestBox

        parts = list(self.module.modules())
        kernels = [part for part in parts if isinstance(part, KernelFeatures)]
        return any(isinstance(part, LargestBox) for part in parts) or any(part.boxes == "largest" for part in kernels)

    def _stored(self, product_id: int) -> Iterator[ds.Dataset]:
        """Select a product, with its features, from each chunk that has it."""
        wanted = ds.field("product_id") == product_id
        found = (tables["products"].filter(wanted) for tables in self.products.chunks.values())
        return (product for product in found if product.count_rows())

    def _word_scores(self, query_features: pa.Table, product: ds.Dataset) -> list[float]:
        """Give what each word of a query that is read adds to the score of a product, in the words' order."""
        from multimodal_recall.data.examples import read_chunk
        from multimodal_recall.data.pairs import Pairs

        arrays = read_chunk({"products": product, "query_features": ds.dataset(query_features)}, self.module.reading)
        none = np.zeros(1, np.int64)
        return self.module.explain(arrays, Pairs(none, none, none))[0].tolist()

    def source(self) -> str:
        """Say which model ranks how many products, and how."""
        products, trained = self.products, f"{self.card['epoch'] + 1} epochs"
        return (
            f"{len(products.product_ids):,} products of {products.split}, ranked by {self.ranker} of {self.version}: "
            f"{trained}, nDCG@5 on valid {self.card['valid_ndcg_at_5']:.3f}; {self.how}"
        )

    def featurize(self, queries: Sequence[str]) -> pa.Table:
        """Compute ``query_features`` of the distinct cleaned queries, with a column ``unknown_words``."""
        texts = list(dict.fromkeys(self.clean(query) for query in queries))
        if not texts:
            raise SearchError("there is no query: name one or more")
        with bar("featurize", len(texts), "queries") as shown:
            features = self.encode(texts, shown.advance)
        unknown = [[word for word in words_of(text) if word not in self.encode.words] for text in texts]
        return features.append_column("unknown_words", pa.array(unknown, pa.list_(pa.string())))

    def clean(self, query: str) -> str:
        """Clean a query as those that the ranker was trained on."""
        try:
            text = decode_query(query.encode(errors="surrogateescape"))
        except BadRow as error:
            raise SearchError(f"query {query!r}: {error}. Name the product in a word or more") from error
        return strip_leading_token(text) if self.cleaning.strip_leading_tokens else text


def open_searcher(
    catalog: CatalogProtocol, ranker: str, products: SplitProducts, hardware: Hardware, version: str | None = None
) -> Searcher:
    """Load the newest, the pinned or the named version of a ranker's model, and its index of the products.

    Raises:
        SearchError: If the model or the record of its training does not exist.
        DatasetError: If a version that the model was trained with has been dropped.
    """
    name = f"{ranker}.model"
    saved = catalog.get(name) if version is None else pinned(name, version, catalog)
    if not saved.exists():
        _check_name(ranker)
        raise SearchError(
            f"there is no model of {ranker!r} in this environment's data. Name a trained ranker with --ranker, or "
            f"train {ranker} first: kedro run --params=rankers={ranker}"
        )
    hardware.set_threads()
    model = saved.load()
    records = _records_of_a_chunk(catalog, ranker, model.card["inputs"])
    module = model.build().to(hardware.device).eval()
    index, how = fresh_index(catalog, ranker, model, products.chunks)
    return Searcher(
        ranker=ranker,
        version=saved.load_path().parent.name,
        card=model.card,
        module=module,
        encode=_encoder(catalog, records["query_features"], module.reads_sentences, hardware),
        cleaning=IngestOptions(**records["products"]["options"]["params:ingest"]),
        products=products,
        index=index,
        how=name_environment(how),
    )


def _check_name(ranker: str) -> None:
    known = known_rankers(current_configuration()[0]["parameters"])
    if ranker not in known:
        near = get_close_matches(ranker, known, 1, 0.0)[0]
        raise SearchError(f"there is no ranker {ranker!r}. Did you mean {near!r}?")


def _encoder(
    catalog: CatalogProtocol, record: dict[str, Any], reads_sentences: bool, hardware: Hardware
) -> QueryEncoder:
    """Load what a ranker's training queries were encoded with, by the record of a chunk's ``query_features``."""
    names = ("word_vectors", *["language_model"] * reads_sentences)
    loaded = {name: catalog.load(name, version=record["inputs"][name]) for name in names}
    options = QueryOptions(**record["options"]["params:featurize"])
    return QueryEncoder(loaded.get("language_model"), loaded["word_vectors"], options, hardware)


def _records_of_a_chunk(catalog: CatalogProtocol, ranker: str, trained_on: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Give the records of the first training chunk's products and query features; all chunks are encoded alike."""
    first: dict[str, Any] = {}
    for chunk, versions in trained_on.items():
        records = {}
        for kind in ("products", "query_features"):
            name = f"train.{chunk}.{kind}"
            records[kind] = pinned(name, versions[kind], catalog).record()
            if records[kind] is None:
                raise SearchError(
                    f"the record of {name} {versions[kind]}, on which {ranker} was trained, is missing, so the query "
                    f"encoding is not known. Make chunk and model again: "
                    f"kedro run --from-nodes=train.{chunk}.ingest"
                )
        first = first or records
        if _encoding_of(records) != _encoding_of(first):
            raise SearchError(
                f"{ranker} was trained on queries of two encodings: {chunk} was made with other options, another "
                f"language model or other word vectors than {next(iter(trained_on))}. Make all chunks alike and train "
                "again: kedro run --pipelines=featurize,sample_negatives,train,evaluate"
            )
    return first


def _encoding_of(records: dict[str, Any]) -> tuple[Any, ...]:
    features = records["query_features"]
    language = {name: features["inputs"][name] for name in ("language_model", "word_vectors")}
    return records["products"]["options"]["params:ingest"], features["options"], language
