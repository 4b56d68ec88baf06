import pytest

from pipeline.errors import InputError, ParamsError
from pipeline.runtime.artifacts import create_artifact
from pipeline.runtime.places import check_page, refuse_finished_output


def test_finished_outputs_stay_whole(tmp_path):
    with create_artifact(tmp_path / "data/report") as writer:
        (writer.path / "index.html").write_text("page")
    for place in ("data/report/index.html", "data/report/deep/er", "data/labels/../report/x"):
        with pytest.raises(InputError, match=r"--out .* lies in the finished output .*data/report; choose a place"):
            refuse_finished_output(tmp_path / place, "--out")
    (tmp_path / "link").symlink_to(tmp_path / "data/report")
    with pytest.raises(InputError, match="lies in the finished output"):
        refuse_finished_output(tmp_path / "link/x.html", "--out")
    refuse_finished_output(tmp_path / "data/labels/index.html", "--out")


def test_a_page_replaces_pages_only(tmp_path):
    with pytest.raises(ParamsError, match=r"--out .*names\.yaml: is no name of a page; let it end in \.html"):
        check_page(tmp_path / "names.yaml", "--out")
    (tmp_path / "x.html").mkdir()
    with pytest.raises(InputError, match=r"x\.html: is a folder"):
        check_page(tmp_path / "x.html", "--out")
    check_page(tmp_path / "new.html", "--out")
