"""Put the run times of all jobs so far on a page."""

from resilience import fork_server

fork_server.hand_over(start=False)

import json
from typing import TYPE_CHECKING

from resilience import artifacts, progress, times

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = json.loads(snakemake.params.measured)["settings"]
with artifacts.whole(snakemake.output[0]) as partial:
    partial.write_text(times.render(settings["templates"], settings["seconds"]), encoding="utf-8")
progress.finish()
