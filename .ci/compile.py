"""Compiles the data path, where that is possible: ``pip install .`` runs this through hatchling's build hook.

The modules below are ordinary Python with types; mypyc makes extension modules of them, which lie beside the sources in
the wheel and are imported instead.  What a small request costs falls by a third; what else may be noticed of it is told
in docs/explanation/what-it-costs.md.

``MESHCORE_COMPILE`` decides: ``0`` leaves them as they are, ``1`` fails where they cannot be compiled; by default they
are compiled where there is a C compiler with Python's headers, and else left as they are.  An editable install is never
compiled, for its sources are meant to be edited.

    python .ci/compile.py DIRECTORY        compiles into DIRECTORY, without a wheel around it
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # Run as a script.
    BuildHookInterface = object

ROOT = Path(__file__).parent.parent

MODULES = (
    # What a connection's bytes mean.
    "codec/events",
    "codec/h1/chunked",
    "codec/h1/client",
    "codec/h1/connection",
    "codec/h1/control",
    "codec/h1/memory",
    "codec/h1/scan",
    "codec/h1/server",
    "codec/h1/target",
    "codec/h1/write",
    "codec/validate",
    "codec/h2/authority",
    "codec/h2/bodies",
    "codec/h2/bulk",
    "codec/h2/connection",
    "codec/h2/engine_direct",
    "codec/h2/engine_ngh2",
    "codec/h2/frames",
    "codec/h2/hpack_decoder",
    "codec/h2/hpack_encoder",
    "codec/h2/hpack_integer",
    "codec/h2/huffman",
    "codec/h2/message",
    "codec/h2/scanner",
    "codec/h2/stream",
    "codec/h2/verdicts",
    "codec/h2/watch",
    # Messages.
    "http/body",
    "http/classify",
    "http/counted",
    "http/grpc",
    "http/headers",
    "http/message",
    "http/pass_through",
    "http/replay",
    "http/reserved",
    "http/route_table",
    "http/trace_ids",
    # Connections.
    "transport/connection",
    "transport/flow_body",
    "transport/http2",
    "transport/relay",
    "transport/readiness",
    "transport/socket",
    "transport/sweep",
    "transport/tls",
    # What is recorded of them.
    "grpc/protobuf",
    "tracing/attributes",
    "tracing/otlp",
    "tracing/propagation",
    "tracing/span",
    "tracing/tracer",
    "layers/trace/services",
    # What is counted of them.
    "metrics/histogram",
    "metrics/requests",
    "metrics/route_requests",
    "accounting/account",
    "accounting/passage",
    "accounting/probe",
    "accounting/sampler",
    "accounting/visit",
    # Who may send them, and who takes them.
    "layers/authorize/guard",
    "layers/downgrade_orig_proto",
    "layers/load_shed/shedding",
    "layers/proxy_errors",
    "layers/read_overrides/overriding",
    "layers/require_id",
    "layers/rescue/rescued",
    "layers/set_client_id",
    "layers/upgrade_orig_proto",
    "layers/retry/peek",
    "layers/retry/retrying",
    "layers/failure_accrual/gate",
    "layers/balance/balancer",
    "layers/balance/exchange",
    "layers/balance/line",
    "layers/balance/load_state",
    "layers/balance/p2c_picker",
    "layers/balance/ready",
    # Whether somebody looks at them.
    "layers/tap/tapped",
    # What is written of them.
    "layers/access_log/exchange",
    "layers/access_log/fields",
    "layers/access_log/format",
    "layers/access_log/lines",
    "layers/balance/standing",
    # Streams, on both sides.
    "server/_http2_server",
    "server/_limits",
    "server/_stream_task",
    "server/http1",
    "server/http1_watch",
    "server/request_body",
    "client/_http2_connection",
    "client/_http2_stream",
    "client/http",
    "client/http1",
    "client/http1_connection",
    "client/http2",
    "client/limits",
    "client/pool",
    "client/response_body",
    "client/upload",
)
"""Those that run for every request, in the order of a request.  Not among them: what attrs makes, such as layers; what
is subclassed without saying so (``meshcore._native``); generators that Trio drives (``_wakeup``)."""

# The compiler, and what the modules' types come from.
REQUIRES = ["mypy>=2.4,<3", "setuptools>=77", "attrs>=24", "h2>=4.4.1", "ngh2>=0.3,<0.4", "trio>=0.31"]


def chosen() -> str:
    """``"0"``, ``"1"`` or ``"auto"``."""
    return os.environ.get("MESHCORE_COMPILE", "auto")


def possible() -> bool:
    """Whether this machine can compile for this Python."""
    compiler = (sysconfig.get_config_var("CC") or "").split()
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return (
        platform.python_implementation() == "CPython"
        and bool(compiler)
        and (shutil.which(compiler[0]) or shutil.which("cc")) is not None
        and headers.exists()
    )


def compile_into(folder: Path) -> None:
    """Compiles all of them; the extension modules lie in *folder* as they have to beside the packages."""
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    os.chdir(ROOT)
    paths = [f"meshcore/{module}.py" for module in MODULES]
    with tempfile.TemporaryDirectory() as scratch:
        # Not judged here, only compiled: what is not installed for it is Any.
        options = ["--config-file=", "--follow-imports=silent", "--ignore-missing-imports", "--cache-dir", os.devnull]
        extensions = mypycify(
            [*options, *paths],
            opt_level="2",
            debug_level="0",
            # One file would take a compiler minutes, and only one of them.
            multi_file=True,
            target_dir=scratch,
            group_name="meshcore",
        )
        for extension in extensions:
            # Nobody puts other functions in place of these, so that calls among them need no table and may be inlined.
            extension.extra_compile_args += ["-fvisibility=hidden"]
            if "gcc" in (sysconfig.get_config_var("CC") or ""):
                extension.extra_compile_args += ["-fno-semantic-interposition"]

        class Parallel(build_ext):
            """Compiles as many files at a time as there are processors."""

            def build_extension(self, ext: Any) -> None:
                self.compiler.compile = partial(_each, self.compiler.compile)
                super().build_extension(ext)

        command = Parallel(Distribution({"name": "meshcore-compiled", "ext_modules": extensions}))
        command.build_lib, command.build_temp = str(folder), str(Path(scratch, "objects"))
        command.ensure_finalized()
        command.run()


def _each(compile_all: Any, sources: list[str], **options: Any) -> list[str]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(lambda source: compile_all([source], **options), sources)
        return [path for paths in made for path in paths]


class CompileHook(BuildHookInterface):
    """Hatchling's hook: adds what was compiled to the wheel."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What compiling needs, if anything is compiled."""
        return list(REQUIRES) if chosen() == "1" or (chosen() != "0" and possible()) else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles, and says that the wheel is for this Python then."""
        if version == "editable" or chosen() == "0" or (chosen() != "1" and not possible()):
            return
        folder = Path(self.directory, "compiled")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        # A process of its own: whatever happens there, an install without a compiler's help is still one.
        made = subprocess.run(
            [sys.executable, __file__, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if made.returncode:
            if chosen() == "1":
                raise RuntimeError(f"meshcore could not be compiled:\n{made.stdout}")
            self.app.display_warning(f"not compiled; it works all the same:\n{made.stdout[-2000:]}")
            return
        for path in folder.rglob("*.so"):
            build_data["force_include"][str(path)] = str(path.relative_to(folder))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


if __name__ == "__main__":
    compile_into(Path(sys.argv[1]).resolve())
