"""What compares a query's vector with a product's."""

from torch import Tensor, nn

from multimodal_recall.models.precision import ScoreLayer


class ConcatMlp(nn.Module):
    """An MLP on both vectors side by side, with two logits: wrong and right.

    The first layer is split, ``W [q, v] = Wq q + Wv v``, so that its cost is one product of each query and each
    image instead of one a pair.

    Shapes:
        queries (Q, Dq), products (P, Dp), pair_queries (N,), pair_products (N,) -> (N, state) -> (N,); of a second
        hidden layer (N, second_state) in place of (N, state).
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
        """Give the last hidden layer of each pair."""
        # index_select and not [...]: on several CPU threads the gradient of the latter adds up in any order.
        first = self.query_part(queries).index_select(0, pair_queries)
        second = self.product_part(products).index_select(0, pair_products)
        return self._hidden(first + second)

    def score_all(self, queries: Tensor, products: Tensor) -> Tensor:
        """Score every query (Q, Dq) with every product (P, Dp), (Q, P)."""
        hidden = self.query_part(queries).unsqueeze(1) + self.product_part(products)
        return self.score(self._hidden(hidden.flatten(0, 1))).unflatten(0, hidden.shape[:2])

    def score(self, hidden: Tensor) -> Tensor:
        """Log-odds of a pair being right: the difference of its logits."""
        wrong, right = self.last(self.dropout(hidden)).unbind(dim=1)
        return right - wrong

    def _hidden(self, summed: Tensor) -> Tensor:
        hidden = summed.relu()
        return hidden if self.second is None else self.second(self.dropout(hidden)).relu()
