"""What compares a query's vector with a product's."""

from torch import Tensor, nn


class ConcatMlp(nn.Module):
    """An MLP on both vectors side by side, with two logits: wrong and right.

    The first layer is split, ``W [q, v] = Wq q + Wv v``, so that its cost is one product of each query and each
    image instead of one a pair.

    Shapes:
        queries (Q, Dq), products (P, Dp), pair_queries (N,), pair_products (N,) -> (N, 2).
    """

    def __init__(self, query_size: int, product_size: int, state: int, dropout: float) -> None:
        super().__init__()
        self.query_part = nn.Linear(query_size, state)
        self.product_part = nn.Linear(product_size, state, bias=False)
        self.rest = nn.Sequential(nn.ReLU(), nn.Dropout(dropout), nn.Linear(state, 2))

    def forward(self, queries: Tensor, products: Tensor, pair_queries: Tensor, pair_products: Tensor) -> Tensor:
        """Give the logits of each pair."""
        return self.rest(self.query_part(queries)[pair_queries] + self.product_part(products)[pair_products])

    @staticmethod
    def scores(logits: Tensor) -> Tensor:
        """Log-odds (N,) of the pair being right."""
        return logits[:, 1] - logits[:, 0]
