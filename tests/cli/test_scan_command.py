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

from awx_ratelimit.cli.scan_command import _CHUNK_BYTES, _search
from awx_ratelimit.keys import KeyFinder, KeyFormat

KEY = KeyFormat().new().reveal()


class TestScan:
    """Keys in places where they should not be."""

    def test_output(self, run: Run, tmp_path: Path) -> None:
        """The output has the file, the line and the masked key; the exit status is 1."""
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

    def test_stdin(self, run: Run) -> None:
        """Without a path, or with '-', standard input is scanned."""
        statuses = [run("scan", *words, stdin=f"a\nb {KEY}".encode()) for words in ((), ("-",))]

        assert [(ran.status, ran.out) for ran in statuses] == [(1, f"-:2: awx_...{KEY[-4:]}\n")] * 2

    def test_no_keys(self, run: Run, tmp_path: Path) -> None:
        """Text that only looks like a key is not reported; the exit status is 0."""
        (tmp_path / "a.txt").write_text(f"{KEY[:-1]} {KEY.swapcase()} awx_...x4f2 {'awx_' + 'a' * 38}")
        ran = run("scan", str(tmp_path), "--json")

        assert ran.status == 0
        assert ran.json == {"found": []}

    def test_folders(self, run: Run, tmp_path: Path) -> None:
        """Folders are scanned recursively, without links and without folders such as .git."""
        for folder in ("b/c", ".git", "node_modules/x", ".hidden"):
            (tmp_path / folder).mkdir(parents=True)
            (tmp_path / folder / "f").write_text(KEY)
        (tmp_path / "z").write_text(KEY)
        (tmp_path / "link").symlink_to(tmp_path / "z")
        (tmp_path / "loop").symlink_to(tmp_path)

        found = run("scan", str(tmp_path), "--json").json["found"]
        assert [one["path"].removeprefix(f"{tmp_path}/") for one in found] == [".hidden/f", "b/c/f", "z"]

    def test_unreadable_file(self, run: Run, tmp_path: Path) -> None:
        """The other files are still scanned. The exit status is 2 if they have no key."""
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
        """A key is found in any encoding, next to letters of any alphabet."""
        ran = run("scan", stdin=f"é\n\xa0{KEY}\xa0\n".encode(encoding))

        assert ran.status == 1
        assert ran.out == f"-:2: awx_...{KEY[-4:]}\n"

    def test_binary(self, run: Run) -> None:
        """A key in a binary file is found."""
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
    def test_hostile_file_name(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, shown: str
    ) -> None:
        """A file name cannot control a terminal or a CI system, in any kind of output."""
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
    def test_encoded_key(self, run: Run, text: str) -> None:
        """A key is found as URLs, JSON and HTTP encode it."""
        ran = run("scan", stdin=f"a\n{text}\n".encode())

        assert ran.status == 1
        assert ran.out == f"-:2: awx_...{KEY[-4:]}\n"

    def test_prefixes(self, run: Run) -> None:
        """Other prefixes need the option; words after the default prefix do not."""
        other, test = KeyFormat("acme_").new().reveal(), KeyFormat("awx_test_").new().reveal()
        found = [run("scan", *words, stdin=f"{other}\n{test}".encode()).out for words in ((), ("--prefix", "acme_"))]

        assert found == [f"-:2: awx_test_...{test[-4:]}\n", f"-:1: acme_...{other[-4:]}\n"]

    @given(st.integers(-60, 60), st.sampled_from(["x", ""]), st.booleans())
    def test_long_line(self, offset: int, after: str, twice: bool) -> None:
        """A key is found exactly once, wherever two chunks of a long line meet."""
        before = "x" * (_CHUNK_BYTES + offset)
        text = f"a\n{before} {KEY} {after * 500}{KEY if twice else ''}\nb"
        found = list(_search("f", io.BytesIO(text.encode()), KeyFinder()))

        assert [match.line for match in found] == [2] * (1 + twice)
