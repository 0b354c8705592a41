"""A Slurm of one node on loopback: its own key, ports and files in one folder, two pretend GPUs, nothing outside."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from getpass import getuser
from pathlib import Path

#: Programs that are needed, and the Debian package of each.
PACKAGES = {
    "munged": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "srun": "slurm-client",
}
MEGABYTES = 8000

SETTINGS = """\
ClusterName=pretend
SlurmctldHost=localhost
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
SchedulerParameters=sched_interval=2,bf_interval=2
MinJobAge=7200
KillWait=2
# Without cgroups memory is watched once a second, and a job that takes more than it asked for is killed.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName=localhost CPUs={cpus} RealMemory={megabytes} Gres=gpu:2 State=UNKNOWN
PartitionName=cpu Nodes=localhost Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=localhost MaxTime=INFINITE State=UP
"""


def missing_packages() -> list[str]:
    """Packages of the programs that are not there."""
    return sorted({package for name, package in PACKAGES.items() if path_of(name) is None})


def path_of(name: str) -> str | None:
    """Where a program lies, also where only root looks."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@dataclass
class Slurm:
    """A Slurm whose files lie in a folder; ``environment`` is what its users need."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    _daemons: list[subprocess.Popen] = field(default_factory=list)

    def start(self) -> None:
        """Start the daemons and wait until the node takes jobs."""
        for name in ("spool", "state", "bin"):
            (self.folder / name).mkdir()
        conf = self.folder / "slurm.conf"
        ports = dict(zip(("controller_port", "node_port"), _free_ports(2), strict=True))
        conf.write_text(
            SETTINGS.format(
                folder=self.folder, user=getuser(), cpus=max(2, os.cpu_count() or 2), megabytes=MEGABYTES, **ports
            ),
            encoding="utf-8",
        )
        # Any two device files will do for GPUs that nobody computes on.
        (self.folder / "gres.conf").write_text(
            "NodeName=localhost Name=gpu File=/dev/null\nNodeName=localhost Name=gpu File=/dev/zero\n", encoding="utf-8"
        )
        # The Snakemake plugin drops all SLURM_* variables before it calls srun, which would then look in /etc.
        wrapper = self.folder / "bin/srun"
        wrapper.write_text(f'#!/bin/sh\nSLURM_CONF="{conf}" exec {path_of("srun")} "$@"\n', encoding="utf-8")
        wrapper.chmod(0o755)
        self.environment = {"SLURM_CONF": str(conf), "PATH": f"{self.folder}/bin:{os.environ['PATH']}"}
        self._start_munge()
        self._run("slurmctld", "-D", "-c", "-f", str(conf))
        self._run("slurmd", "-D", "-N", "localhost", "-f", str(conf))
        self._wait(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T"), "the node of Slurm does not come up")

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={self.folder}/munge.{name}" for option, name in files.items()]
        self._run("munged", "--foreground", "--force", f"--key-file={key}", *options)
        self._wait((self.folder / "munge.socket").exists, "munged does not start")

    def _run(self, daemon: str, *arguments: str) -> None:
        log = (self.folder / f"{daemon}.out").open("w", encoding="utf-8")
        command = [path_of(daemon) or daemon, *arguments]
        self._daemons.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))

    def _wait(self, condition: Callable[[], bool], complaint: str, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            ended = [daemon.args for daemon in self._daemons if daemon.poll() is not None]
            assert not ended, f"{complaint}: {ended} ended; see {self.folder}"
            assert time.monotonic() < deadline, f"{complaint}; see {self.folder}"
            time.sleep(0.2)

    def ask(self, *command: str) -> str:
        """What a Slurm command prints, empty if it fails."""
        done = subprocess.run(command, env=os.environ | self.environment, capture_output=True, encoding="utf-8", check=False)
        return done.stdout if done.returncode == 0 else ""

    def queue(self) -> list[str]:
        """The jobs that wait or run."""
        return self.ask("squeue", "-h", "-o", "%i %T %k").split("\n")[:-1]

    def jobs(self) -> list[dict[str, str]]:
        """All jobs of the last minutes, as Slurm describes them."""
        blocks = self.ask("scontrol", "show", "job", "--oneliner").strip().split("\n")
        return [
            dict(word.split("=", 1) for word in block.split() if "=" in word)
            for block in blocks
            if block.startswith("JobId=")
        ]

    def stop(self) -> None:
        """Cancel what runs and end the daemons."""
        self.ask("scancel", f"--user={getuser()}")
        deadline = time.monotonic() + 30
        # A job outlives the daemons that would have ended it.
        while self.queue() and time.monotonic() < deadline:
            time.sleep(0.5)
        for daemon in reversed(self._daemons):
            with suppress(ProcessLookupError):
                daemon.send_signal(signal.SIGTERM)
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
