"""A SLURM of one node, started for the tests and stopped after them."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel")

# PriorityTier decides who takes the node from whom. cred_expire: a job that was put back waits so
# long, and one second more, before it starts again; two minutes unless it is told.
CONFIG = """
ClusterName=meddiff
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MailProg=/bin/true
ReturnToService=2
KillWait=30
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=low Nodes={host} PriorityTier=1 GraceTime=0 Default=YES
PartitionName=grace Nodes={host} PriorityTier=1 GraceTime=30
PartitionName=high Nodes={host} PriorityTier=10 PreemptMode=OFF
"""


def missing() -> list[str]:
    """The programs of SLURM and munge that are not on PATH."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


class Cluster:
    """munged, slurmctld and slurmd in the foreground, with everything of theirs in one folder.

    A context: leaving it stops them, whatever happened inside, and removes the folder.
    """

    def __init__(self) -> None:
        # Not below pytest's folder, into which the user munge cannot look.
        self.folder = Path(tempfile.mkdtemp(prefix="meddiff-slurm-", dir="/tmp"))
        self._config = self.folder / "slurm.conf"
        self._daemons: list[subprocess.Popen[bytes]] = []
        self.environment = os.environ | {"SLURM_CONF": str(self._config)}

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _start(self) -> None:
        self.folder.chmod(0o755)
        for name in ("state", "spool", "munge"):
            (self.folder / name).mkdir()
        munge = self.folder / "munge"
        shutil.chown(munge, "munge", "munge")
        as_munge = ("setpriv", "--reuid=munge", "--regid=munge", "--clear-groups")
        subprocess.run([*as_munge, "mungekey", "--create", f"--keyfile={munge}/key"], check=True)
        files = {"key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={munge / name}" for option, name in files.items()]
        self._daemon(*as_munge, "munged", "--foreground", f"--socket={munge}/socket", *options)
        self._wait((munge / "socket").exists, "munged")
        host = socket.gethostname().split(".")[0]
        self._config.write_text(
            CONFIG.format(host=host, folder=self.folder, ports=_free_ports(2)).lstrip()
        )
        self._daemon("slurmctld", "-D", "-i")
        self._wait(lambda: self.call("scontrol", "ping", check=False)[0] == 0, "slurmctld")
        self._daemon("slurmd", "-D", "-N", host)
        idle = re.compile(r"\bState=IDLE\b")
        self._wait(lambda: bool(idle.search(self.show("node", host))), "slurmd")

    def _daemon(self, *command: str) -> None:
        log = self.folder / f"{len(self._daemons)}.out"
        with log.open("wb") as output:
            self._daemons.append(
                subprocess.Popen(command, env=self.environment, stdout=output, stderr=output)
            )

    def _wait(self, ready: Callable[[], bool], name: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline or self._daemons[-1].poll() is not None:
                raise RuntimeError(f"{name} did not start:\n{self.logs()}")
            time.sleep(0.2)

    def logs(self) -> str:
        """The last of what the daemons wrote."""
        found = sorted(path for path in self.folder.glob("*") if path.suffix in (".log", ".out"))
        return "\n".join(f"== {path.name}\n{path.read_text()[-3000:]}" for path in found)

    def stop(self) -> None:
        """Ends the jobs, then the daemons, then removes the folder."""
        if len(self._daemons) == 3:
            self.call("scancel", "--user=root", "--signal=KILL", "--full", check=False)
            self.call("scancel", "--user=root", check=False)
            deadline = time.monotonic() + 20
            while self.call("squeue", "--noheader", check=False)[1] and time.monotonic() < deadline:
                time.sleep(0.5)
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, *command: str, check: bool = True) -> tuple[int, str]:
        """Runs a command of SLURM; returns its exit status and what it printed."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.returncode, done.stdout

    def show(self, kind: str, name: str) -> str:
        """What `scontrol show` says, on one line."""
        return self.call("scontrol", "--oneliner", "show", kind, name)[1]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
