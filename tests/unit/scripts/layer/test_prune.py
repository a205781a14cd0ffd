from pathlib import Path, PurePosixPath

import pytest

from scripts.layer.prune import LICENCES, RULES, Rule, files, prune, read_rules, size
from scripts.layer.target import LayerError

WORDS = 'what = "docs"\nwhy = "nobody reads them"\n'


def tree_of(folder: Path, *paths: str) -> Path:
    """Write these files, each with its own path as content; return their folder."""
    for path in paths:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
    return folder


def rule(*remove: str, keep: tuple[str, ...] = (), what: str = "a test's rule") -> Rule:
    return Rule(what=what, why="a test", remove=remove, keep=keep)


def left(tree: Path) -> set[str]:
    return {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}


# --- the rules of the layer ---


def test_each_rule_says_what_goes_and_why() -> None:
    rules = read_rules()
    assert rules
    assert [each for each in rules if not (each.what.strip() and each.why.strip() and each.remove)] == []


def test_no_path_is_named_by_two_rules() -> None:
    patterns = [pattern for each in read_rules() for pattern in each.remove]
    assert sorted(patterns) == sorted(set(patterns))


def test_each_kept_path_is_one_that_its_rule_would_remove() -> None:
    idle = [
        kept
        for each in read_rules()
        for kept in each.keep
        if not any(PurePosixPath(kept).full_match(pattern) for pattern in each.remove)
    ]
    assert idle == []


def test_rules_name_only_paths_in_the_layer() -> None:
    patterns = [PurePosixPath(pattern) for each in read_rules() for pattern in (*each.remove, *each.keep)]
    assert [str(pattern) for pattern in patterns if pattern.is_absolute() or ".." in pattern.parts] == []


def test_the_rules_are_read_in_the_files_order(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(f'[[rule]]\n{WORDS}remove = ["a", "b"]\n[[rule]]\n{WORDS}remove = ["c"]\nkeep = ["c/d"]\n')
    assert read_rules(file) == (
        Rule(what="docs", why="nobody reads them", remove=("a", "b")),
        Rule(what="docs", why="nobody reads them", remove=("c",), keep=("c/d",)),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[[rule]",
        'rule = "docs"',
        f'[rule]\n{WORDS}remove = ["docs"]',
        '[[rule]]\nwhy = "nobody reads them"\nremove = ["docs"]',
        '[[rule]]\nwhat = "docs"\nremove = ["docs"]',
        f"[[rule]]\n{WORDS}",
        f"[[rule]]\n{WORDS}remove = 1",
        f'[[rule]]\n{WORDS}remove = ["docs"]\nkeep = 1',
    ],
)
def test_an_invalid_rules_file_is_named_with_what_a_rule_needs(text: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(text)
    words = r"rules\.toml: a \[\[rule\]\] needs what, why and remove; keep is optional; .* needs why and keep: ."
    with pytest.raises(LayerError, match=words):
        read_rules(file)


# --- what is removed and what is kept ---


def test_a_folder_is_removed_with_its_contents(tmp_path: Path) -> None:
    tree = tree_of(
        tmp_path,
        "pkg/docs/index.html",
        "pkg/docs/deep/er/page.html",
        "pkg/docs/.nojekyll",
        "pkg/docs.py",
        "pkg/code.py",
    )
    prune(tree, [rule("pkg/docs")])
    assert left(tree) == {"pkg/docs.py", "pkg/code.py"}


def test_a_pattern_reaches_every_depth(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "a.pyi", "pkg/b.pyi", "pkg/deep/c.pyi", "pkg/deep/c.py")
    prune(tree, [rule("**/*.pyi")])
    assert left(tree) == {"pkg/deep/c.py"}


def test_a_pattern_without_stars_reaches_one_place_only(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "bin/tool", "pkg/bin/tool")
    prune(tree, [rule("bin")])
    assert left(tree) == {"pkg/bin/tool"}


def test_hidden_files_are_removed_if_named(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, ".lock", "code.py")
    prune(tree, [rule(".lock")])
    assert left(tree) == {"code.py"}


def test_a_kept_folder_stays_with_its_contents(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "data/ec2/a.json", "data/s3/b.json", "data/s3/deep/c.json", "data/partitions.json")
    prune(tree, [rule("data/*", keep=("data/s3", "data/partitions.json"))])
    assert left(tree) == {"data/s3/b.json", "data/s3/deep/c.json", "data/partitions.json"}


def test_one_rule_may_remove_what_another_keeps(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "data/ec2/a.json", "data/s3/b.json", "data/s3/tests/c.json")
    prune(tree, [rule("data/*", keep=("data/s3",)), rule("**/tests")])
    assert left(tree) == {"data/s3/b.json"}


def test_a_file_named_by_two_rules_is_removed_once(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "pkg/tests/stub.pyi", "pkg/code.py")
    prune(tree, [rule("**/tests"), rule("**/*.pyi")])
    assert left(tree) == {"pkg/code.py"}


# --- rules that no longer match ---


def test_a_pattern_that_matches_nothing_is_named_with_its_rule(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "pkg/code.py")
    with pytest.raises(LayerError, match=rf"{RULES.name}: nothing matches pkg/docs \(the manual\); fix or delete"):
        prune(tree, [rule("pkg/docs", what="the manual")])


def test_all_patterns_that_match_nothing_are_named_at_once(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "pkg/code.py")
    with pytest.raises(LayerError, match=r"nothing matches docs \(the manual\), \*\.c \(sources\), \*\.h \(sources\);"):
        prune(tree, [rule("docs", what="the manual"), rule("*.c", "*.h", what="sources")])


def test_only_patterns_that_match_nothing_are_named(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "pkg/code.py", "pkg/code.c")
    with pytest.raises(LayerError, match=r"nothing matches \*\*/\*\.h \(sources\);"):
        prune(tree, [rule("**/*.c", "**/*.h", what="sources")])


def test_a_pattern_whose_every_match_is_kept_matches_nothing(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "data/s3/a.json")
    with pytest.raises(LayerError, match=r"nothing matches data/\* "):
        prune(tree, [rule("data/*", keep=("data/s3",))])


def test_nothing_is_removed_when_a_rule_is_idle(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "pkg/docs/index.html", "pkg/docs/LICENSE", "pkg/code.py")
    with pytest.raises(LayerError):
        prune(tree, [rule("pkg/docs"), rule("nowhere")])
    assert left(tree) == {"pkg/docs/index.html", "pkg/docs/LICENSE", "pkg/code.py"}


# --- licenses ---


@pytest.mark.parametrize(
    "name",
    [
        "LICENSE",
        "LICENSE.txt",
        "License-BSD.md",
        "LICENCE",
        "licenses_bundled.rst",
        "COPYING",
        "COPYING.LESSER",
        "NOTICE.txt",
        "AUTHORS.rst",
        "COPYRIGHT",
    ],
)
def test_a_licence_in_a_removed_part_moves_to_the_licences(name: str, tmp_path: Path) -> None:
    tree = tree_of(tmp_path, f"pkg/compiler/lib/{name}", "pkg/compiler/main.c", "pkg/code.py")
    prune(tree, [rule("pkg/compiler")])
    assert left(tree) == {f"{LICENCES}/pkg/compiler/lib/{name}", "pkg/code.py"}


@pytest.mark.parametrize("name", ["license.py", "licenses.pyi", "_authors.txt", "notices.so", "unlicensed.txt"])
def test_a_file_that_only_sounds_like_a_licence_is_removed(name: str, tmp_path: Path) -> None:
    tree = tree_of(tmp_path, f"pkg/compiler/{name}", "pkg/code.py")
    prune(tree, [rule("pkg/compiler")])
    assert left(tree) == {"pkg/code.py"}


def test_a_moved_licence_keeps_its_text(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "pkg/compiler/LICENSE", "pkg/code.py")
    prune(tree, [rule("pkg/compiler")])
    assert (tree / LICENCES / "pkg/compiler/LICENSE").read_text() == "pkg/compiler/LICENSE"


def test_licences_with_the_same_name_do_not_collide(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "a/tests/LICENSE", "b/tests/LICENSE", "b/tests/deep/LICENSE", "a/code.py", "b/code.py")
    prune(tree, [rule("**/tests")])
    licences = {f"{LICENCES}/{path}" for path in ("a/tests/LICENSE", "b/tests/LICENSE", "b/tests/deep/LICENSE")}
    assert left(tree) == {*licences, "a/code.py", "b/code.py"}


def test_the_licence_of_a_kept_part_stays_where_it_is(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "pkg/a/LICENSE", "pkg/b/LICENSE")
    prune(tree, [rule("pkg/*", keep=("pkg/b",))])
    assert left(tree) == {f"{LICENCES}/pkg/a/LICENSE", "pkg/b/LICENSE"}


def test_a_package_removed_whole_takes_its_licences_with_it(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "plots/LICENSE", "plots/code.py", "plots-1.0.dist-info/licenses/LICENSE", "pkg/code.py")
    prune(tree, [rule("plots", "plots-*.dist-info")])
    assert left(tree) == {"pkg/code.py"}


@pytest.mark.parametrize("order", [("plots", "**/fonts"), ("**/fonts", "plots")])
def test_a_package_is_removed_whole_despite_a_rule_for_a_part(order: tuple[str, str], tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "plots/fonts/LICENSE", "plots/code.py", "pkg/code.py")
    prune(tree, [rule(pattern) for pattern in order])
    assert left(tree) == {"pkg/code.py"}


def test_without_licences_to_keep_there_is_no_licence_folder(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "pkg/docs/index.html", "pkg/code.py")
    prune(tree, [rule("pkg/docs")])
    assert not (tree / LICENCES).exists()


# --- sizes ---


def test_a_size_counts_contents_only(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "four", "a/six")
    assert size(files(tree)) == len("four") + len("a/six")


def test_the_files_of_a_single_file_are_that_file(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "code.py")
    assert list(files(tree / "code.py")) == [tree / "code.py"]


# --- kept paths and faulty rules ---


def test_a_kept_path_stays_in_a_folder_that_is_removed(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "data/s3/a", "data/ec2/b")
    prune(tree, [rule("data", keep=("data/s3",))])
    assert left(tree) == {"data/s3/a"}


def test_a_kept_path_that_no_longer_exists_is_named(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "data/ec2/b")
    with pytest.raises(LayerError, match=r"nothing matches data/s3 \(a test's rule\)"):
        prune(tree, [rule("data/*", keep=("data/s3",))])


@pytest.mark.parametrize(
    "text",
    [
        'remove = "bin"',
        "remove = [1]",
        "remove = []",
        'remove = ["a"]\nkeeps = ["a/b"]',
        'remove = ["../outside"]',
        'remove = ["/etc/hosts"]',
        'remove = [""]',
    ],
)
def test_a_rule_that_could_remove_something_else_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(f"[[rule]]\n{WORDS}{text}\n")
    with pytest.raises(LayerError, match=r"rules\.toml"):
        read_rules(tmp_path / "rules.toml")


def test_a_rules_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_bytes(b"\xff")
    with pytest.raises(LayerError, match=r"rules\.toml"):
        read_rules(tmp_path / "rules.toml")
