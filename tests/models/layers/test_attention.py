"""The layers equal torch's, padded or not."""

import pytest
import torch
from torch import Tensor, nn

from multimodal_recall.models.layers.attention import (
    Attention,
    AttentionPooling,
    FeedForward,
    GuidedAttentionLayer,
    SelfAttentionLayer,
)
from multimodal_recall.models.layers.padding import Padding

WIDTH, HEADS, STATE = 12, 3, 20
MASK = torch.tensor([[0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 1, 1]], dtype=torch.bool)
GUIDE_MASK = torch.tensor([[0, 0, 0, 0, 0], [0, 0, 0, 1, 1]], dtype=torch.bool)
ROWS = torch.tensor([1, 0, 1])


def copy_attention(ours: Attention, theirs: nn.MultiheadAttention, norm: nn.LayerNorm) -> None:
    projections = (ours.query, ours.key, ours.value)
    theirs.in_proj_weight.data = torch.cat([part.weight for part in projections])
    theirs.in_proj_bias.data = torch.cat([part.bias for part in projections])
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    norm.load_state_dict(ours.norm.state_dict())


def copy_feed_forward(ours: FeedForward, theirs: nn.Module, norm: nn.LayerNorm) -> None:
    theirs.linear1.load_state_dict(ours.layers[0].state_dict())
    theirs.linear2.load_state_dict(ours.layers[2].state_dict())
    norm.load_state_dict(ours.norm.state_dict())


def make(kind: type) -> nn.Module:
    """A layer whose norms are not the identity either."""
    torch.manual_seed(0)
    layer = kind(WIDTH, HEADS, STATE, 0.0, nn.ReLU())
    for weight in layer.parameters():
        nn.init.normal_(weight, std=0.5)
    return layer


def check(ours: Tensor, theirs: Tensor, entries: Tensor) -> None:
    """Equal where it is no padding, and so are the gradients."""
    padding = Padding(MASK)
    torch.testing.assert_close(ours, padding.remove(theirs), rtol=0, atol=1e-5)
    gradients = [
        torch.autograd.grad(output.sin().sum(), entries, retain_graph=True)[0]
        for output in (ours, padding.remove(theirs))
    ]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-5)


def test_self_attention_equals_torchs_encoder_layer() -> None:
    ours, padding = make(SelfAttentionLayer), Padding(MASK)
    theirs = nn.TransformerEncoderLayer(WIDTH, HEADS, STATE, 0.0, "relu", batch_first=True)
    copy_attention(ours.attention, theirs.self_attn, theirs.norm1)
    copy_feed_forward(ours.feed_forward, theirs, theirs.norm2)
    data = torch.randn(*MASK.shape, WIDTH, requires_grad=True)
    check(ours(padding.remove(data), padding), theirs(data, src_key_padding_mask=MASK), data)


def test_guided_attention_equals_torchs_decoder_layer() -> None:
    # Given three sequences guided by two
    ours, padding, guide_padding = make(GuidedAttentionLayer), Padding(MASK), Padding(GUIDE_MASK)
    theirs = nn.TransformerDecoderLayer(WIDTH, HEADS, STATE, 0.0, "relu", batch_first=True)
    copy_attention(ours.attention, theirs.self_attn, theirs.norm1)
    copy_attention(ours.guided, theirs.multihead_attn, theirs.norm2)
    copy_feed_forward(ours.feed_forward, theirs, theirs.norm3)
    data, guide = torch.randn(*MASK.shape, WIDTH), torch.randn(*GUIDE_MASK.shape, WIDTH)
    for changed in (data.requires_grad_(), guide.requires_grad_()):
        made = ours(padding.remove(data), padding, guide_padding.remove(guide), guide_padding, ROWS)
        masks = {"tgt_key_padding_mask": MASK, "memory_key_padding_mask": GUIDE_MASK[ROWS]}
        check(made, theirs(data, guide[ROWS], **masks), changed)


def test_pooling_is_a_softmax_weighted_sum_of_the_real_entries() -> None:
    torch.manual_seed(0)
    pooling, padding, data = AttentionPooling(WIDTH, 5, 7, 0.0), Padding(MASK), torch.randn(*MASK.shape, WIDTH)
    pooled = pooling(padding.remove(data), padding)
    for sequence, mask, vector in zip(data, MASK, pooled, strict=True):
        real = sequence[~mask]
        torch.testing.assert_close(vector, pooling.out(pooling.weigh(real).softmax(0).T @ real).squeeze(0))


def test_dropout_falls_on_attention_and_layers_in_training_alone() -> None:
    torch.manual_seed(0)
    attention, padding = Attention(WIDTH, HEADS, 0.5), Padding(MASK)
    entries = torch.randn(len(padding.places), WIDTH)
    assert not torch.equal(attention(entries, padding), attention(entries, padding))
    # the weights alone: what is left is no dropout of the output layer
    attention.out.weight.data.zero_()
    attention.out.bias.data.zero_()
    assert torch.equal(attention(entries, padding), attention(entries, padding))
    attention.eval()
    assert torch.equal(attention(entries, padding), attention(entries, padding))


def test_padding_comes_back_as_zeros() -> None:
    padding, data = Padding(MASK), torch.randn(*MASK.shape, 2)
    torch.testing.assert_close(padding.put_back(padding.remove(data)), data.masked_fill(MASK[:, :, None], 0))


@pytest.mark.parametrize("threads", [1, 2])
def test_gradients_are_the_same_bits_each_time(threads: int) -> None:
    # Given many sequences that share a few guides
    def gradient() -> list[Tensor]:
        layer = make(GuidedAttentionLayer)
        mask, guide_mask = (
            torch.arange(9) >= torch.randint(1, 9, (3000, 1)),
            torch.arange(6) >= torch.tensor([[3], [6]]),
        )
        padding, guide_padding = Padding(mask), Padding(guide_mask)
        entries, guide = torch.randn(len(padding.places), WIDTH), torch.randn(9, WIDTH)
        layer(entries, padding, guide, guide_padding, torch.randint(2, (3000,))).square().sum().backward()
        return [weight.grad for weight in layer.parameters()]

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        one = gradient()
        assert all(all(map(torch.equal, gradient(), one)) for _ in range(3))
    finally:
        torch.set_num_threads(before)
