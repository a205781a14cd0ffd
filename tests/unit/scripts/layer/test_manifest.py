import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from scripts import ROOT
from scripts.layer import build, manifest, target, verify
from scripts.layer.archive import sha256
from scripts.layer.build import Built, Part, Stripped
from scripts.layer.sandbox_checks import Findings
from scripts.layer.target import BrokenLayerError, LayerError, Target
from scripts.layer.verify import Verdict
from trader.progress import Progress

TARGET = Target("3.13", "x86_64")
RUN = Verdict(findings=Findings(init_ms=373.0, after_init_mb=85.0, peak_mb=103.6, run_s=0.9, enforced={}))
NOT_RUN = Verdict(findings=None, not_run="another machine")


@pytest.fixture
def dist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Move the folder of finished layers out of the repository, and return it."""
    monkeypatch.setattr(target, "DIST", tmp_path / "dist")
    (tmp_path / "dist").mkdir()
    return tmp_path / "dist"


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the files that determine a layer's contents to a folder where a test may change them; return the folder."""
    for name in manifest.MADE_FROM:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    original = manifest.hash_sources
    monkeypatch.setattr(manifest, "hash_sources", lambda: original(tmp_path))
    return tmp_path


def finish(verdict: Verdict = RUN, wanted: Target = TARGET) -> Path:
    """Write a zip and its manifest as `make layer` leaves them; return the zip's path."""
    wanted.zip.write_bytes(b"a layer")
    described = manifest.describe(
        wanted, wanted.zip, unpacked_bytes=1_000, verdict=verdict, sources=manifest.hash_sources()
    )
    manifest.write(wanted, described)
    return wanted.zip


def read_manifest(wanted: Target = TARGET) -> Mapping[str, object]:
    text = manifest.path(wanted).read_text()
    parsed: Mapping[str, object] = json.loads(text)
    return parsed


def test_a_finished_layer_need_not_be_built_again(dist: Path) -> None:
    finish()
    assert manifest.reason_to_build(TARGET) == ""


def test_the_manifest_lies_beside_the_zip_under_its_name(dist: Path) -> None:
    finish()
    assert sorted(path.name for path in dist.iterdir()) == [f"{TARGET.name}.json", f"{TARGET.name}.zip"]


def test_the_manifest_has_sizes_runtime_and_measurements(dist: Path) -> None:
    zip_file = finish()
    assert {name: value for name, value in read_manifest().items() if name != "made_from"} == {
        "sha256": sha256(zip_file),
        "unpacked_bytes": 1_000,
        "zip_bytes": len(b"a layer"),
        "python": "3.13",
        "architecture": "x86_64",
        "verified": True,
        "init_ms": 373.0,
        "run_s": 0.9,
        "peak_mb": 103.6,
    }


def test_the_manifest_names_requirements_rules_and_code(dist: Path) -> None:
    finish()
    sources = read_manifest()["made_from"]
    assert isinstance(sources, dict)
    assert {"layer/requirements.txt", "layer/prune.toml", "scripts/layer/build.py", "scripts/layer/elf.py"} <= set(
        sources
    )
    assert sources["layer/requirements.txt"] == sha256(ROOT / "layer/requirements.txt")


def test_the_manifest_says_if_the_layer_was_not_run(dist: Path) -> None:
    finish(NOT_RUN)
    assert (read_manifest()["verified"], read_manifest()["init_ms"]) == (False, None)


def test_without_a_zip_it_has_to_be_built(dist: Path) -> None:
    assert manifest.reason_to_build(TARGET) == f"{TARGET.name}.zip does not exist"


def test_a_manifest_without_its_zip_does_not_count(dist: Path) -> None:
    finish().unlink()
    assert manifest.reason_to_build(TARGET) == f"{TARGET.name}.zip does not exist"


def test_a_zip_without_its_manifest_does_not_count(dist: Path) -> None:
    finish()
    manifest.path(TARGET).unlink()
    assert "is missing or unreadable" in manifest.reason_to_build(TARGET)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"sha256": "abc"}'])
def test_an_invalid_manifest_does_not_count(text: str, dist: Path) -> None:
    finish()
    manifest.path(TARGET).write_text(text)
    assert "is missing or unreadable" in manifest.reason_to_build(TARGET)


def test_a_zip_that_was_changed_afterwards_does_not_count(dist: Path) -> None:
    finish().write_bytes(b"another")
    assert f"{TARGET.name}.zip is not the zip that was built" in manifest.reason_to_build(TARGET)


@pytest.mark.parametrize("name", manifest.MADE_FROM)
def test_a_layer_made_before_a_change_does_not_count(name: str, dist: Path, sources: Path) -> None:
    finish()
    with (sources / name).open("a") as file:
        file.write("\n# changed\n")
    assert manifest.reason_to_build(TARGET) == f"{TARGET.name}.zip was built before these files changed: {name}"


def test_each_runtime_has_a_manifest_of_its_own(dist: Path) -> None:
    finish()
    assert manifest.reason_to_build(Target("3.14", "x86_64")) == "prophet-layer-python3.14-x86_64.zip does not exist"


@pytest.mark.parametrize(("runs_here", "counts"), [(True, False), (False, True)])
def test_an_unverified_layer_counts_only_where_it_cannot_run(
    runs_here: bool, counts: bool, dist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Target, "runs_here", runs_here)
    finish(NOT_RUN)
    assert (manifest.reason_to_build(TARGET) == "") is counts


def test_an_unreadable_manifest_is_an_error(dist: Path) -> None:
    finish()
    manifest.path(TARGET).unlink()
    manifest.path(TARGET).mkdir()
    with pytest.raises(LayerError, match=r"\.json cannot be read: Is a directory"):
        manifest.reason_to_build(TARGET)


# --- make layer ---


@pytest.fixture
def make_layer(dist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the build with one that writes a single word; return the path of the future zip."""

    def fake_build(wanted: Target, work: Path, progress: Progress) -> Built:
        (work / "a.zip").write_text("newer")
        parts = [Part(name="big", version="1.0", before_bytes=9_000, after_bytes=4_000)]
        return Built(zip=work / "a.zip", parts=parts, stripped=Stripped(tool="strip", files=1, left=[]))

    monkeypatch.setattr(build, "BUILD", tmp_path / "build")
    monkeypatch.setattr(build, "build", fake_build)
    monkeypatch.setattr(verify, "verify", lambda *_: RUN)
    for name in ("PYTHON", "ARCH", "JSON"):
        monkeypatch.delenv(name, raising=False)
    return TARGET.zip


def test_make_layer_leaves_a_layer_that_need_not_be_built_again(make_layer: Path) -> None:
    build.main()
    assert manifest.reason_to_build(TARGET) == ""
    told = read_manifest()
    assert (told["unpacked_bytes"], told["zip_bytes"], told["verified"]) == (4_000, 5, True)


def test_a_layer_that_fails_leaves_the_older_one_with_its_manifest(
    make_layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Verdict:
        raise BrokenLayerError("it does not start")

    finish()
    monkeypatch.setattr(verify, "verify", fails)
    with pytest.raises(SystemExit):
        build.main()
    assert manifest.reason_to_build(TARGET) == ""
    assert make_layer.with_suffix(".failed").read_text() == "newer"


def test_a_change_during_a_build_is_a_reason_to_build_again(
    make_layer: Path, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verify_slowly(*_: object) -> Verdict:
        (sources / "layer/requirements.txt").write_text("numpy==1.0\n")
        return RUN

    monkeypatch.setattr(verify, "verify", verify_slowly)
    build.main()
    assert "before these files changed: layer/requirements.txt" in manifest.reason_to_build(TARGET)


def test_a_zip_whose_manifest_could_not_be_written_does_not_count(
    make_layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish()

    def no_room(*_: object) -> None:
        raise LayerError("the disk is full")

    monkeypatch.setattr(manifest, "write", no_room)
    with pytest.raises(SystemExit):
        build.main()
    assert make_layer.read_text() == "newer"
    assert "is not the zip that was built" in manifest.reason_to_build(TARGET)
