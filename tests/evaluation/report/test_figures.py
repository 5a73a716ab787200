import re

import pytest
from matplotlib.figure import Figure

from multimodal_recall.evaluation.calibration import reliability
from multimodal_recall.evaluation.report import figures
from tests.evaluation.report.conftest import LOG, make_candidates


def plots() -> dict[str, Figure]:
    candidates = make_candidates(queries=3, candidates=8, right=4)
    return {
        "loss": figures.plot_learning_curves({"a$b$": LOG, "<b>": LOG}, "loss"),
        "scores": figures.plot_score_distributions(candidates),
        "calibration": figures.plot_calibration(reliability(candidates)),
    }


@pytest.mark.parametrize("name", ["loss", "scores", "calibration"])
def test_a_plot_has_colours_that_the_page_replaces_and_is_always_the_same(name: str) -> None:
    svg, again = (figures.to_svg(plots()[name], name, 'what "it" shows') for _ in range(2))
    assert svg == again
    assert svg.startswith('<svg role="img" aria-label="what &#34;it&#34; shows" viewBox="0 0 360')
    assert figures.INK in svg
    assert set(re.findall(r"(?:fill|stroke): (#\w+)", svg)) <= figures.PAGE_COLOURS.keys()
    assert "://" not in svg
    assert all(found.startswith(name) for found in re.findall(r'\bid="([^"]*)', svg))


def test_names_of_rankers_stand_as_they_are() -> None:
    svg = figures.to_svg(plots()["loss"], "loss", "losses")
    assert ">a$b$<" in svg
    assert "&lt;b&gt;" in svg


def test_more_rankers_than_colours() -> None:
    logs = {f"ranker {number}": LOG for number in range(2 * len(figures.SERIES))}
    svg = figures.to_svg(figures.plot_learning_curves(logs, "valid_ndcg_at_5"), "learning", "many")
    assert all(f">{name}<" in svg for name in logs)


def test_right_and_wrong_differ_in_more_than_colour() -> None:
    svg = figures.to_svg(plots()["scores"], "scores", "scores")
    assert f"fill: {figures.RIGHT}" in svg
    wrong = [style for style in re.findall(r'style="([^"]*)"', svg) if f"stroke: {figures.WRONG}" in style]
    assert wrong
    assert all("stroke-dasharray" in style for style in wrong)
