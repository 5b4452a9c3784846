"""Names of other packages' unstable interfaces: each exists and does what its adapter file needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mtt_brian"


class TestTorch:
    """mtt_brian/snn/ops/internals.py"""

    @pytest.mark.slow  # imports torch's compiler
    def test_dynamo_cache_size_limit(self) -> None:
        """The number of variants of a compiled function is raised during its calls only."""
        torch = pytest.importorskip("torch")
        from mtt_brian.snn.ops import internals

        def limit(x: object) -> int:
            return int(torch._dynamo.config.cache_size_limit)

        before = limit(None)
        assert before < internals.MOST_VARIANTS
        call = internals.compiled.__wrapped__(torch.compiler.disable(limit))
        assert call(None) == internals.MOST_VARIANTS
        assert limit(None) == before

    def test_no_other_file_uses_private_names_of_torch(self) -> None:
        private = re.compile(r"torch\._[a-z]|\bfrom torch[\w.]* import .*\b_[A-Za-z]|nn\.modules\.")
        found = [
            f"{path.relative_to(PACKAGE)}: {line.strip()}"
            for path in sorted(PACKAGE.rglob("*.py"))
            if path.name != "internals.py"
            for line in path.read_text(encoding="utf-8").splitlines()
            if private.search(line)
        ]
        assert not found
