"""Wiring of ``import_shop``: the tables, a node a chunk of photos, then the raw files."""

from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import SHOP_PRODUCTS, SHOP_SPLITS, Layout
from multimodal_recall.pipelines.import_shop import nodes
from multimodal_recall.pipelines.wiring import for_each_chunk

OPTIONS = "params:import_shop"
PRODUCTS, CLICKS = "shop.products", "shop.clicks"


def create_pipeline(layout: Layout) -> Pipeline:
    """Read a shop's tables and photos, and write the raw files of its environment."""
    chunks = layout.chunks_of("photos")
    shared = [PRODUCTS, OPTIONS, "params:describe", "params:hardware"]
    described = for_each_chunk(chunks, nodes.describe_chunk, [], shared, ["described", "rejected_photos"], "describe")
    tables, refused = ([f"{chunk.namespace}.{kind}" for chunk in chunks] for kind in ("described", "rejected_photos"))
    lists = {f"{split}_table": f"{split}_table" for split in SHOP_SPLITS}
    lists |= {f"{split}_answers": f"{split}_answers" for split in SHOP_SPLITS[1:]}
    refused_rows = ["shop.rejected_products", "shop.rejected_clicks"]
    steps = [
        (nodes.read_products, ["products_file", OPTIONS], [PRODUCTS, refused_rows[0]], "shop"),
        (nodes.read_clicks, ["clicks_file", PRODUCTS, OPTIONS], [CLICKS, refused_rows[1]], "shop"),
        (nodes.gather_products, [PRODUCTS, *tables], [SHOP_PRODUCTS, "labels"], "raw"),
        (nodes.make_lists, [CLICKS, PRODUCTS, SHOP_PRODUCTS, OPTIONS], lists, "raw"),
        (nodes.link_photos, [PRODUCTS, SHOP_PRODUCTS, OPTIONS, *refused], "photo_links", "raw"),
        (nodes.gather_rejected, [PRODUCTS, *refused_rows, *refused], "shop.rejected", "raw"),
    ]
    made = [Node(step, read, outputs, name=step.__name__, namespace=room) for step, read, outputs, room in steps]
    return Pipeline([*made, described], tags="import_shop")
