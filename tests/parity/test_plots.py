"""The picture of a report, where matplotlib is installed."""

from test_report import read_columns_of, write_results

import report


def test_bars(tmp_path):
    write_results(tmp_path / "a", S=0.5, C1=0.2)
    columns = read_columns_of([tmp_path / "a", "clips/e5-base-trm-nl"])
    report.plot(tmp_path / "bars.svg", columns)
    drawn = (tmp_path / "bars.svg").read_text()
    assert "<svg" in drawn and drawn.count("<path") > 20
