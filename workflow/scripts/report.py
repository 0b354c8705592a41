"""Put verdicts, figures and the state of every network on one page."""

from resilience import fork_server

fork_server.hand_over(start=False)

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from resilience import artifacts, documents, jobs, progress, report

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


def model_of(path: str) -> str:
    """Dataset, network, training and seed of a file that lies in the folder of a network."""
    return "/".join(Path(path).parts[-5:-1])


progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
history = jobs.history_of(snakemake)

figures = []
for path in snakemake.input.figures:
    documents.read_document(path)
    summary, description = settings["captions"][Path(path).stem]
    reading = " ".join(description.split("\n\n")[0].split())
    figures.append({"name": Path(path).stem, "summary": summary, "reading": reading, "path": path})
fits = {model_of(path): artifacts.read_json(path) for path in snakemake.input.fits}
histories = {model_of(path): artifacts.read_table(path) for path in snakemake.input.histories}
page = report.render(
    settings["templates"],
    artifacts.read_table(snakemake.input.claims[0]) if snakemake.input.claims else None,
    artifacts.read_table(snakemake.input.outcomes),
    figures,
    fits,
    histories,
    settings["flow"]["rules"],
    settings["flow"]["arrows"],
    yaml.safe_dump(settings["config"], sort_keys=False, allow_unicode=True),
    settings["titles"],
)
documents.write_document(snakemake.output[0], page.encode(), history)
progress.finish()
