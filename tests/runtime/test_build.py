"""Compiling, caching and loading native code."""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from composer.errors import BackendError
from composer.runtime import build, cache, doctor, libraries, library

SOURCE = 'extern "C" double twice(double x) {{ return x + x + {0}; }}\n'


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, shared_cache: Path, tmp_path: Path) -> None:
    """Nothing of these tests lands in the user's cache; programs are built quickly."""
    monkeypatch.setenv("COMPOSER_CACHE", str(shared_cache))
    monkeypatch.setenv("COMPOSER_OPT", "-O1")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def twice(made: ctypes.CDLL, x: float) -> float:
    made.twice.argtypes, made.twice.restype = [ctypes.c_double], ctypes.c_double
    return made.twice(x)


def files(folder: Path, ending: str = ".so") -> list[Path]:
    return sorted(folder.glob(f"kernels/*{ending}"))


def script(program: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environment
    )


def wrapper(path: Path, body: str) -> str:
    """A stand-in for a compiler that does `body` and then calls the real one."""
    path.write_text(f'#!/bin/sh\n{body}\nexec {" ".join(build.find_compiler().command)} "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_a_source_is_built_once_for_a_process_and_once_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    made = library(SOURCE.format(0))
    assert twice(made, 3.0) == 6.0
    assert library(SOURCE.format(0)) is made
    build._loaded.clear()
    monkeypatch.setattr(build, "_compile", None)  # would fail if it were called
    assert twice(library(SOURCE.format(0)), 4.0) == 8.0


def test_several_sources_come_in_order_and_equal_ones_are_one() -> None:
    first, second, third, again = libraries([SOURCE.format(k) for k in (1, 2, 3, 1)])
    assert [twice(made, 1.0) for made in (first, second, third)] == [3.0, 4.0, 5.0]
    assert again is first


def test_flags_are_part_of_the_key() -> None:
    assert library(SOURCE.format(0), fast_math=False) is not library(SOURCE.format(0))
    assert library(SOURCE.format(0), march="x86-64-v2" if "x86" in build.cpu_features() else "") is not library(SOURCE.format(0))


def test_subnormals_survive_loading() -> None:
    program = (
        "from composer.runtime import build, library\n"
        f"assert '-ffast-math' in build.compile_flags(build.find_compiler())\n"
        f"library({SOURCE.format(0)!r})\n"
        "x = 1e-310\n"
        "print(x * 0.5 == 5e-311 and x * 0.5 != 0.0)\n"
    )
    assert script(program).communicate()[0] == "True\n"


def test_two_processes_build_the_same_source_at_once(tmp_path: Path) -> None:
    """Acceptance test 20 of the compiler's theory page, its second half."""
    program = (
        "import ctypes, sys\n"
        "from composer.runtime import library\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"made = library({SOURCE.format(0)!r})\n"
        "made.twice.argtypes, made.twice.restype = [ctypes.c_double], ctypes.c_double\n"
        "print(made.twice(2.5))\n"
    )
    both = [script(program, COMPOSER_CACHE=str(tmp_path)) for _ in range(2)]
    for process in both:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate()[0] for process in both] == ["5.0\n", "5.0\n"]
    assert len(files(tmp_path)) == 1
    assert sorted(path.suffix for path in (tmp_path / "kernels").iterdir()) == [".json", ".so"]  # no locks, no workplaces


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")
    with pytest.raises(BackendError, match=r"CXX names '/nowhere/g\+\+', which is not there\. .*export CXX="):
        library(SOURCE.format(0))
    assert "CXX" in doctor()["problem"]
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(build, "_in_a_wheel", list)
    with pytest.raises(BackendError, match=r"neither g\+\+ nor clang\+\+.*pip install ziglang"):
        library(SOURCE.format(0))


def test_without_a_compiler_on_the_path_the_one_in_a_wheel_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("ziglang")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = build.find_compiler()
    assert "ziglang" in found.command and "clang" in found.version


def test_a_flag_whose_library_is_missing_is_left_out(tmp_path: Path) -> None:
    """A compiler that takes -fopenmp and links nothing for it; in a process of its own, where nobody else has loaded that library."""
    bare = wrapper(tmp_path / "bare++", 'case "$*" in *-shared*) set -- $(echo "$*" | sed s/-fopenmp//);; esac')
    program = "from composer.runtime import build; print(*build.compile_flags(build.find_compiler()))"
    found = subprocess.run([sys.executable, "-c", program], env={**os.environ, "CXX": bare}, capture_output=True, text=True, check=True)
    assert "-std=c++17" in found.stdout and "-fopenmp" not in found.stdout


def test_a_failing_compiler_is_quoted() -> None:
    with pytest.raises(BackendError, match=r"status 1 and said:(.|\n)*error:(.|\n)*composer doctor") as caught:
        library("this is no program")
    assert caught.value.asked and caught.value.found and caught.value.type_this
    assert not list(cache.cache_folder().glob("*.lock"))


def test_flags_that_the_compiler_refuses_are_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", wrapper(tmp_path / "old++", 'case "$*" in *prefer-vector-width*|*openmp*) exit 1;; esac'))
    assert twice(library(SOURCE.format(0)), 1.0) == 2.0
    flags = build.compile_flags(build.find_compiler())
    assert {"-O1", "-ffast-math", "-std=c++17", "-fPIC"} <= set(flags)
    assert not {"-mprefer-vector-width=512", "-fopenmp"} & set(flags)


def test_the_environment_sets_the_optimisation_level(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = build.find_compiler()
    assert "-O1" in build.compile_flags(compiler, optimize="-O3")
    monkeypatch.setenv("COMPOSER_OPT", "-Ofast -o /tmp/x")
    with pytest.raises(BackendError, match="COMPOSER_OPT=-O1"):
        build.compile_flags(compiler)


def test_where_the_cache_cannot_be_written_a_private_folder_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("COMPOSER_CACHE", str(tmp_path / "file" / "cache"))
    assert twice(library(SOURCE.format(7)), 1.0) == 9.0
    private = cache.private_folder()
    assert private.parent == tmp_path
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert len(list(private.glob("*.so"))) == 1
    private.chmod(0o777)
    with pytest.raises(BackendError, match="COMPOSER_CACHE"):
        cache.writable_folder()


def test_a_filled_cache_that_is_read_only_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMPOSER_CACHE", str(tmp_path))
    library(SOURCE.format(8))
    build._loaded.clear()
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(tmp_path / "kernels")))
    monkeypatch.setattr(build, "_compile", None)
    assert twice(library(SOURCE.format(8)), 1.0) == 10.0


@pytest.mark.parametrize("damage", ["others may write it", "it is a link", "it is cut short"])
def test_a_library_that_is_not_trusted_is_built_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: str) -> None:
    monkeypatch.setenv("COMPOSER_CACHE", str(tmp_path))
    name = build._key(SOURCE.format(0), damage) + ".so"
    monkeypatch.setattr(build, "_key", lambda *parts: name.removesuffix(".so"))
    path = tmp_path / "kernels" / name
    path.parent.mkdir(mode=0o700)
    if damage == "it is a link":
        (tmp_path / "foreign.so").write_bytes(b"foreign")
        path.symlink_to(tmp_path / "foreign.so")
    else:
        path.write_bytes(b"foreign")
        path.chmod(0o666 if damage == "others may write it" else 0o600)
    assert twice(library(SOURCE.format(0)), 1.0) == 2.0
    assert path.is_file() and not path.is_symlink() and cache.trusted(path)


def test_the_doctor_reports() -> None:
    report = doctor()
    assert "problem" not in report
    assert "-std=c++17" in report["flags"] and report["version"] and report["cpu"] and int(report["cores"]) >= 1
    assert Path(report["cache"]).is_dir()
