"""The real engine under real kills: `bestex serve` is loaded, shot at and checked, all of it from outside.

run.py        one ordeal from the first start to the audit
schedule.py   which blow falls when, from one seed
engine.py     the engine's process: started again whenever it ends
database.py   the embedded PostgreSQL's processes
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

from bestex.ordeal.report import LivePlan, LiveReport, Progress
from bestex.ordeal.run import run_live

__all__ = ["LivePlan", "LiveReport", "Progress", "run_live"]
