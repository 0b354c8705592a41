"""What the tests share: small networks in double precision, and the folder of the project."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

from resilience import computing
from resilience.posterior import Posterior

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _as_in_a_job():
    """Tests compute as jobs do, whatever a stage that ran in this process before has set."""
    computing.prepare(1)


@pytest.fixture(scope="session", params=["C", "en_US.ISO-8859-1"])
def other_locale(request, tmp_path_factory) -> dict[str, str]:
    """The environment of a locale in which Python takes texts for another encoding than UTF-8."""
    folder = tmp_path_factory.mktemp("locales")
    if request.param != "C":
        localedef = shutil.which("localedef")
        made = localedef and subprocess.run(
            [localedef, "-i", "en_US", "-f", "ISO-8859-1", folder / request.param], capture_output=True, check=False
        )
        if not made or made.returncode:
            pytest.skip("localedef cannot make a locale with Latin-1 here")
    return {"LC_ALL": request.param, "LOCPATH": str(folder), "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def double_network(layers: list[nn.Module], seed: int) -> nn.Sequential:
    """Layers as a network in double precision whose weights follow from the seed."""
    network = nn.Sequential(*layers).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.4)
    return network


def noisy_posterior(network: nn.Sequential, draws: int, seed: int = 0, noise: float = 0.1) -> Posterior:
    """Draws that scatter around the weights of a network."""
    generator = torch.Generator().manual_seed(seed)

    def scatter(value: torch.Tensor) -> torch.Tensor:
        return value + noise * torch.randn((draws, *value.shape), generator=generator, dtype=value.dtype)

    return Posterior(network, {name: scatter(value) for name, value in network.state_dict().items()})


def templates(page: str) -> dict[str, str]:
    """The template of a page of the project, and the one that all pages share."""
    files = (ROOT / f"workflow/report/{name}.html.j2" for name in ("page", page))
    return {file.name: file.read_text(encoding="utf-8") for file in files}
