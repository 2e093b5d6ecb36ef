"""The real engine under real kills: one or many processes are loaded, shot at and checked, all of it from outside.

run.py        one ordeal from the first start to the audit
system.py     what it is about: one of the next two
live.py       `bestex serve` alone, with its embedded database
cluster.py    apis, workers, watchers and simnet over one PostgreSQL
schedule.py   which blow falls when, from one seed; cluster_schedule.py for a cluster
process.py    a process that is started again whenever it ends
engine.py     what processes are told: a hostile world
database.py   the embedded PostgreSQL's processes
valkey.py     a Valkey that keeps nothing
free_ports.py, doors.py   where they all listen, and who goes where
wishes.py     what clients order: every kind, near the price
world.py      the price moves, pools are launched, a dead man's switch is renewed
clients.py    orders, repeated until their outcome is definite
watchers.py   streams that are resumed whenever they break
checks.py     what must hold of what the clients and the watchers saw
kinds.py      what must hold of watched orders, exits and slices
asking.py     what the ordeal itself asks of the engine
audit.py      what must hold of the database
report.py     what came of it
"""

from bestex.ordeal.cluster_schedule import cluster_schedule
from bestex.ordeal.report import ClusterPlan, LivePlan, LiveReport, Progress, Queue
from bestex.ordeal.run import run_live
from bestex.ordeal.valkey import ValkeyMissingError

__all__ = [
    "ClusterPlan",
    "LivePlan",
    "LiveReport",
    "Progress",
    "Queue",
    "ValkeyMissingError",
    "cluster_schedule",
    "run_live",
]
