"""Each bug that ``systems.md`` section 7 lists in the published systems, and the test that catches it here.

Some are caught where their code is tested; this file names them all, and holds the ones that are about the whole.
"""

import ast
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

import multimodal_recall
from multimodal_recall.models.language_model import train_tokenizer
from tests.data import test_boxes, test_decoding
from tests.datasets import test_atomic
from tests.evaluation import test_metrics
from tests.models import test_data_parallel, test_ranker
from tests.negatives import test_drawing
from tests.pipelines import test_sample_negatives
from tests.training import test_loop

SOURCES = sorted(Path(multimodal_recall.__file__).parent.rglob("*.py"))

CAUGHT_BY = {
    "wrong box axes": [
        test_boxes.test_top_and_bottom_are_divided_by_the_height,
        test_decoding.test_the_box_order_is_top_left_bottom_right,
    ],
    "position 0 of a BiLSTM taken as its summary": [
        test_ranker.test_the_summary_of_a_bilstm_is_the_last_state_of_each_direction,
        test_ranker.test_every_box_moves_the_scores_of_its_product_alone,
    ],
    "padding unmasked in training only": [test_ranker.test_padding_never_changes_a_score_in_training_or_evaluation],
    "half the data an epoch": [test_loop.test_every_pair_is_seen_every_epoch_in_another_order],
    "unseeded draws": [
        test_loop.test_the_same_seed_gives_the_same_weights_and_another_seed_others,
        test_sample_negatives.test_every_epoch_seed_and_chunk_draws_anew_and_the_same_again,
        test_metrics.test_the_interval_is_seeded_and_as_wide_as_theory_says,
    ],
    "a swallowed exception that turned hard negatives off": [
        test_sample_negatives.test_a_misspelt_label_is_refused_and_hard_negatives_are_never_quietly_off,
        test_drawing.test_equal_to_a_loop_on_random_products,
    ],
    "answers cut to five": [
        test_metrics.test_six_answers_are_never_cut_to_five,
        test_atomic.test_answers_keep_all_six,
    ],
    "DDP without set_epoch": [
        test_loop.test_chunks_come_in_another_order_each_epoch_and_the_same_again,
        test_loop.test_every_pair_is_seen_every_epoch_in_another_order,
        test_data_parallel.test_several_processes_train_the_model_of_one,
    ],
}


@pytest.mark.parametrize("bug", CAUGHT_BY)
def test_each_bug_has_a_test_that_checks_something(bug: str) -> None:
    for test in CAUGHT_BY[bug]:
        assert re.search(r"\bassert|pytest\.raises", inspect.getsource(test)), test


def test_no_doubled_sep(tmp_path: Path) -> None:
    train_tokenizer(["red shirt", "blue hat"], 100).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for query in ("red shirt", "hat"):
        ids = np.array(tokenizer(query)["input_ids"])
        assert (ids == tokenizer.sep_token_id).sum() == 1
        assert (ids == tokenizer.cls_token_id).sum() == 1


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_no_exception_is_swallowed(source: Path) -> None:
    handlers = [node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.ExceptHandler)]
    broad = [one for one in handlers if one.type is None or ast.unparse(one.type) in ("Exception", "BaseException")]
    assert all(isinstance(handler.body[-1], ast.Raise) for handler in broad)
    assert not [handler for handler in handlers if isinstance(handler.body[0], ast.Pass | ast.Continue)]


def test_no_draw_is_unseeded() -> None:
    # no global NumPy or Python randomness, and no generator without a seed
    for source in SOURCES:
        assert not re.search(
            r"np\.random\.(?!default_rng|Generator)|\brandom\.seed|default_rng\(\)", source.read_text()
        ), source
