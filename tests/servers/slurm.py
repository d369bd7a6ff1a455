"""A Slurm cluster of two nodes on this machine: Debian's own daemons, as whoever runs the tests, in a folder.

It listens on loopback, needs no systemd, no control groups and no account, and is up in a second. With `accounts`, the
database daemon and a MariaDB of its own come in front of `sacct`, which takes some seconds more.
"""

from __future__ import annotations

import getpass
import os
import platform
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
PROGRAMS_OF_ACCOUNTS = ("slurmdbd", "sacct", "sacctmgr", "mariadbd", "mariadb-install-db")
NODES = ("n1", "n2")
PATIENCE_SECONDS = 30

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_min_interval=10000,batch_sched_delay=0
MpiDefault=none
PlugStackConfig=/dev/null
ReturnToService=2
KillWait=1
MessageTimeout=2
MinJobAge={forgets}
{accounting}
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={n1} CPUs=2 RealMemory=2000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={n2} CPUs=2 RealMemory=2000
PartitionName=cpu Nodes=n1,n2 Default=YES MaxTime=2-00:00:00 State=UP
"""
"""Two daemons of one machine are two nodes. `sched_min_interval` is in microseconds: jobs start at once."""
ACCOUNTING = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge/socket
"""
DATABASE_CONFIG = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=root
StorageLoc=slurm
"""


def missing(accounts: bool = False) -> str:
    """Why there can be no cluster here; empty where all programs are installed."""
    wanted = PROGRAMS + (PROGRAMS_OF_ACCOUNTS if accounts else ())
    absent = [name for name in wanted if shutil.which(name, path=_path()) is None]
    return f"not installed (apt install slurm-wlm slurmdbd mariadb-server): {', '.join(absent)}" if absent else ""


class SlurmCluster:
    """The daemons of one cluster. `config` is what SLURM_CONF has to name for the programs to find it."""

    def __init__(self, folder: Path, forgets: int, accounts: bool) -> None:
        """forgets: seconds after which the controller drops an ended job (its `MinJobAge`); 2 is the least."""
        self.folder = folder
        self.config = folder / "slurm.conf"
        self._accounts = accounts
        self._database: subprocess.Popen[bytes] | None = None
        ports = iter(_free_ports(5))
        values = {"host": platform.node().partition(".")[0], "user": getpass.getuser(), "folder": folder}
        self._database_port = next(ports)
        database = {"port": next(ports), "database_port": self._database_port}
        accounting = ACCOUNTING.format(**values, **database) if accounts else ""
        nodes = dict(zip(NODES, ports, strict=False))
        self.config.write_text(
            CONFIG.format(**values, **nodes, port=next(ports), forgets=forgets, accounting=accounting)
        )
        if accounts:
            (folder / "slurmdbd.conf").write_text(DATABASE_CONFIG.format(**values, **database))
            (folder / "slurmdbd.conf").chmod(0o600)

    def start(self) -> None:
        munge = self.folder / "munge"
        munge.mkdir(mode=0o755)
        (munge / "key").write_bytes(os.urandom(1024))
        (munge / "key").chmod(0o600)
        paths = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        self.run("munged", "--force", *(f"--{option}={munge / name}" for option, name in paths.items()))
        (self.folder / "state").mkdir()
        if self._accounts:
            self._start_database()
            self.run("slurmdbd")
            self._until(lambda: self._answers("sacctmgr", "--immediate", "--quiet", "add", "cluster", "test"))
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        self._until(lambda: self.run("sinfo", "--noheader", "--format=%D %T").strip() == "2 idle")

    def stop(self) -> None:
        for name in (*(f"slurmd-{node}" for node in NODES), "slurmctld", "slurmdbd", "mariadb", "munge/pid"):
            self.end(name)
        if self._database is not None:
            self._database.wait()

    def start_controller(self, *options: str) -> None:
        """Start it with what it kept of its jobs; with `-c`, without."""
        self.run("slurmctld", *options)
        self._until(lambda: self._answers("squeue"))

    def start_node(self, node: str) -> None:
        self.run("slurmd", "-N", node)

    def end(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a daemon the signal, and wait for its end; nothing where it does not run. Its name is its pid file's."""
        file = self.folder / (name if name == "munge/pid" else f"{name}.pid")
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pid = int(file.read_text())
            os.kill(pid, number)
            self._until(lambda: not _lives(pid))

    def pid_of(self, name: str) -> int:
        return int((self.folder / f"{name}.pid").read_text())

    def run(self, *command: str) -> str:
        """What one of Slurm's programs prints for this cluster."""
        return self._call(*command, check=True).stdout

    def _call(self, *command: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        with (self.folder / "started.log").open("a") as log:  # a daemon keeps it open, a pipe would not be closed
            environment = {"PATH": _path(), "SLURM_CONF": str(self.config), "LC_ALL": "C"}
            return subprocess.run(
                command, env=environment, check=check, stdout=subprocess.PIPE, stderr=log, text=True, timeout=60
            )

    def _answers(self, *command: str) -> bool:
        return self._call(*command).returncode == 0

    def _start_database(self) -> None:
        data = self.folder / "database"
        data.mkdir()
        ours = ["--no-defaults", f"--datadir={data}", f"--user={getpass.getuser()}"]
        self.run("mariadb-install-db", *ours, "--auth-root-authentication-method=normal", "--skip-test-db")
        network = ["--bind-address=127.0.0.1", f"--port={self._database_port}", f"--socket={self.folder / 'sql'}"]
        with (self.folder / "mariadb.log").open("a") as log:
            command = [shutil.which("mariadbd", path=_path()) or "mariadbd", *ours, *network]
            self._database = subprocess.Popen(
                [*command, f"--pid-file={self.folder / 'mariadb.pid'}"], stdout=log, stderr=log
            )
        self._until(lambda: self._listens(self._database_port))

    @staticmethod
    def _listens(port: int) -> bool:
        with closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def _until(self, condition: Callable[[], bool]) -> None:
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < give_up_at, f"the cluster does not do as it should; see {self.folder}"
            time.sleep(0.05)


@contextmanager
def slurm_cluster(folder: Path, forgets: int = 300, accounts: bool = False) -> Iterator[SlurmCluster]:
    """A cluster that runs until the block ends."""
    cluster = SlurmCluster(folder, forgets, accounts)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _lives(pid: int) -> bool:
    """Whether the process runs; one that has ended and that nobody waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _path() -> str:
    """Daemons lie where only root looks."""
    return f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
