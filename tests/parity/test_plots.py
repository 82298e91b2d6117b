"""The pictures, where matplotlib is installed: training's lines a source, the bars of a report."""

from test_report import read_columns_of, write_results

import e5nl
import report


def test_bars(tmp_path):
    write_results(tmp_path / "a", S=0.5, C1=0.2)
    columns = read_columns_of([tmp_path / "a", "clips/e5-base-trm-nl"])
    report.plot(tmp_path / "bars.svg", columns)
    drawn = (tmp_path / "bars.svg").read_text()
    assert "<svg" in drawn and drawn.count("<path") > 20


def test_losses(tmp_path):
    lines = [
        {"step": step, "source": f"bron {step % 3}", "loss": 1 / step, "accuracy": step / 9}
        for step in range(1, 9)
    ]
    e5nl.plot(tmp_path / "run.svg", lines)
    drawn = (tmp_path / "run.svg").read_text()
    assert drawn.count("<!-- bron ") == 3 and "<!-- accuracy -->" in drawn
