"""The head that compares a query's vector with a product's."""

from torch import Tensor, nn

from multimodal_recall.models.precision import ScoreLayer


class ConcatMlp(nn.Module):
    """Compare two vectors side by side with an MLP of two logits: wrong and right.

    The first layer is split, ``W [q, v] = Wq q + Wv v``: it multiplies each query and each product once, and not each
    pair.
    """

    def __init__(
        self, query_size: int, product_size: int, state: int, dropout: float, second_state: int | None = None
    ) -> None:
        super().__init__()
        self.query_part = nn.Linear(query_size, state)
        self.product_part = nn.Linear(product_size, state, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.second = None if second_state is None else nn.Linear(state, second_state)
        self.last = ScoreLayer(second_state or state, 2)

    def forward(self, queries: Tensor, products: Tensor, pair_queries: Tensor, pair_products: Tensor) -> Tensor:
        """Compute the last hidden layer of pairs (N,) of queries (Q, Dq) and products (P, Dp): (N, last width)."""
        # index_select and not [...]: on several CPU threads, the gradient of [...] is summed in any order.
        of_queries = self.query_part(queries).index_select(0, pair_queries)
        of_products = self.product_part(products).index_select(0, pair_products)
        return self._hidden(of_queries + of_products)

    def score_all(self, queries: Tensor, products: Tensor) -> Tensor:
        """Score every query (Q, Dq) with every product (P, Dp), (Q, P)."""
        summed = self.query_part(queries).unsqueeze(1) + self.product_part(products)
        return self.score(self._hidden(summed.flatten(0, 1))).unflatten(0, summed.shape[:2])

    def score(self, hidden: Tensor) -> Tensor:
        """Compute the log-odds of each pair being right, (N, last width) -> (N,): the difference of its logits."""
        wrong, right = self.last(self.dropout(hidden)).unbind(dim=1)
        return right - wrong

    def _hidden(self, summed: Tensor) -> Tensor:
        hidden = summed.relu()
        return hidden if self.second is None else self.second(self.dropout(hidden)).relu()
