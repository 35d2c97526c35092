"""``awx-ratelimit scan`` finds keys in files and pipes, and prints them masked."""

import base64
import io
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cli.conftest import Run
from tests.strangers import unprivileged

from awx_ratelimit.cli.scan_command import _PIECE_BYTES, _in_lines
from awx_ratelimit.keys import KeyFinder, KeyFormat

KEY = KeyFormat().new().reveal()


class TestScan:
    """Keys where none should be."""

    def test_the_place_is_told_and_not_the_key(self, run: Run, tmp_path: Path) -> None:
        """File, line and the masked form; status 1."""
        path = tmp_path / "settings.py"
        path.write_text(f"# a comment\nKEY = '{KEY}'\n")
        ran, as_json = run("scan", str(path)), run("scan", str(path), "--json")

        masked = f"awx_...{KEY[-4:]}"
        assert ran.status == 1
        assert ran.out == f"{path}:2: {masked}\n"
        assert ran.err == ""
        assert as_json.status == 1
        assert as_json.json == {"found": [{"path": str(path), "line": 2, "masked": masked}]}
        assert KEY[4:30] not in ran.out + as_json.out

    def test_what_comes_through_a_pipe(self, run: Run) -> None:
        """Without a path, or with '-'."""
        statuses = [run("scan", *words, stdin=f"a\nb {KEY}".encode()) for words in ((), ("-",))]

        assert [(ran.status, ran.out) for ran in statuses] == [(1, f"-:2: awx_...{KEY[-4:]}\n")] * 2

    def test_nothing_is_found_where_nothing_is(self, run: Run, tmp_path: Path) -> None:
        """What only looks like a key is none: one letter off, cut short, masked. Status 0."""
        (tmp_path / "a.txt").write_text(f"{KEY[:-1]} {KEY.swapcase()} awx_...x4f2 {'awx_' + 'a' * 38}")
        ran = run("scan", str(tmp_path), "--json")

        assert ran.status == 0
        assert ran.json == {"found": []}

    def test_folders_are_searched(self, run: Run, tmp_path: Path) -> None:
        """Whole, but for what git and others keep, and what a link leads to."""
        for folder in ("b/c", ".git", "node_modules/x", ".hidden"):
            (tmp_path / folder).mkdir(parents=True)
            (tmp_path / folder / "f").write_text(KEY)
        (tmp_path / "z").write_text(KEY)
        (tmp_path / "link").symlink_to(tmp_path / "z")
        (tmp_path / "loop").symlink_to(tmp_path)

        found = run("scan", str(tmp_path), "--json").json["found"]
        assert [one["path"].removeprefix(f"{tmp_path}/") for one in found] == [".hidden/f", "b/c/f", "z"]

    def test_a_file_that_cannot_be_read_is_an_error(self, run: Run, tmp_path: Path) -> None:
        """Others are searched all the same; the status is 2 if nothing was found, for not everything was seen."""
        (tmp_path / "a").write_text(KEY)
        (tmp_path / "b").write_text("nothing")
        none = str(tmp_path / "none")
        with_key, without = (run("scan", none, str(tmp_path / name)) for name in "ab")
        as_json = run("scan", none, str(tmp_path / "a"), "--json")

        assert with_key.status == 1
        assert with_key.out.count("\n") == 1
        assert with_key.err.count("\n") == 1
        assert without.status == 2
        assert without.out == ""
        assert without.err.count("\n") == 1
        assert as_json.status == 1
        assert len(as_json.json["found"]) == 1
        assert as_json.json["unreadable"] == [none]

    @pytest.mark.parametrize("mode", [0o000, 0o400, 0o100])
    def test_unreadable_folder(self, run: Run, mode: int) -> None:
        """The command reports a folder that it cannot read, and searches the files before and after it."""
        with TemporaryDirectory() as path:
            # Pytest's own temporary folders may be closed to other users.
            root = Path(path)
            root.chmod(0o755)
            for folder in ("a", "b", "c"):
                (root / folder).mkdir()
                (root / folder / "f").write_text(KEY)
            (root / "b").chmod(mode)
            # Modules that the command imports on first use may lie where only root can read.
            run("scan", str(root / "a"))
            with unprivileged():
                ran = run("scan", path)
            (root / "b").chmod(0o755)

        assert ran.status == 1
        assert [line.split(":")[0] for line in ran.out.splitlines()] == [f"{path}/a/f", f"{path}/c/f"]
        assert ran.err.startswith(f"error: {path}/b")
        assert ran.err.endswith(": Permission denied\n")

    def test_deep_folders(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Folders may be nested deeper than Python's recursion limit."""
        monkeypatch.chdir(tmp_path)
        for _ in range(1_200):
            Path("d").mkdir()
            os.chdir("d")
        Path("f").write_text(KEY)
        os.chdir(tmp_path)
        status = run("scan", ".").status
        # Neither shutil nor pytest can remove folders this deep.
        subprocess.run(["rm", "-rf", "d"], check=True)

        assert status == 1

    @pytest.mark.parametrize(
        "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"]
    )
    def test_encodings(self, run: Run, encoding: str) -> None:
        """A key is found beside letters of any alphabet, and in what Windows writes."""
        ran = run("scan", stdin=f"é\n\xa0{KEY}\xa0\n".encode(encoding))

        assert ran.status == 1
        assert ran.out == f"-:2: awx_...{KEY[-4:]}\n"

    def test_bytes_that_are_no_text(self, run: Run) -> None:
        """A key in a binary is found as well."""
        assert run("scan", stdin=bytes(range(256)) + KEY.encode() + b"\x00\xff").status == 1

    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            ("a\n::error file=x", "a\\x0a::error file=x"),
            ("a\r::error", "a\\x0d::error"),
            ("::error file=x", "\\x3a\\x3aerror file=x"),
            ("  ::error", "  \\x3a\\x3aerror"),
            ("##vso[task.complete]", "\\x23\\x23vso[task.complete]"),
            ("x##[error]", "x\\x23\\x23[error]"),
            ("\x1b]0;title\x07\x1b[31m", "\\x1b]0;title\\x07\\x1b[31m"),
            ("\x9b31m", "\\x9b31m"),
            ("\u202egnp.txt", "\\u202egnp.txt"),
            ("\u2028::error", "\\u2028::error"),
            (os.fsdecode(b"\xff"), "\\udcff"),
            ("\U000e0001", "\\U000e0001"),
            ("żółć 密钥", "żółć 密钥"),
        ],
    )
    def test_a_name_of_a_file_is_printed_so_that_nobody_obeys_it(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, shown: str
    ) -> None:
        """Neither a terminal nor a CI; found or not readable, and JSON as well."""
        monkeypatch.chdir(tmp_path)
        Path(name).write_text(KEY)
        found, as_json, missing = run("scan", "."), run("scan", ".", "--json"), run("scan", f"{name}/none")

        assert found.status == 1
        assert found.out == f"{shown}:1: awx_...{KEY[-4:]}\n"
        assert missing.err.count("\n") == 1
        assert shown in missing.err or shown.startswith(("\\x3a", "  \\x3a"))
        assert as_json.json["found"][0]["path"] == name
        lines = [line.strip() for ran in (found, as_json, missing) for line in (ran.out + ran.err).split("\n")]
        assert [line for line in lines if line.startswith("::") or "##" in line] == []
        assert [line for line in lines if not line.isprintable()] == []

    @pytest.mark.parametrize(
        "text",
        [
            KEY.replace("_", "%5F"),
            f"https://h/?key={KEY.replace('_', '%5f')}",
            KEY.replace("_", "%255F"),
            KEY.replace("_", "\\u005f"),
            "Authorization: Basic " + base64.b64encode(f"{KEY}:".encode()).decode(),
            "authorization: basic " + base64.b64encode(f"user:{KEY}".encode()).decode().rstrip("="),
        ],
        ids=["percent", "url", "percent twice", "json", "basic", "basic in lower case"],
    )
    def test_a_key_that_is_encoded_is_found(self, run: Run, text: str) -> None:
        """As URLs, JSON and HTTP encode it."""
        ran = run("scan", stdin=f"a\n{text}\n".encode())

        assert ran.status == 1
        assert ran.out == f"-:2: awx_...{KEY[-4:]}\n"

    def test_other_prefixes(self, run: Run) -> None:
        """Of keys that begin otherwise; words after the usual prefix need no mention."""
        other, test = KeyFormat("acme_").new().reveal(), KeyFormat("awx_test_").new().reveal()
        found = [run("scan", *words, stdin=f"{other}\n{test}".encode()).out for words in ((), ("--prefix", "acme_"))]

        assert found == [f"-:2: awx_test_...{test[-4:]}\n", f"-:1: acme_...{other[-4:]}\n"]

    @given(st.integers(-60, 60), st.sampled_from(["x", ""]), st.booleans())
    def test_a_long_line_is_searched_in_pieces(self, offset: int, after: str, twice: bool) -> None:
        """A key is found once wherever the pieces meet."""
        before = "x" * (_PIECE_BYTES + offset)
        text = f"a\n{before} {KEY} {after * 500}{KEY if twice else ''}\nb"
        found = list(_in_lines("f", io.BytesIO(text.encode()), KeyFinder()))

        assert [place.line for place in found] == [2] * (1 + twice)
