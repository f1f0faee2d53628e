"""What people do all the time: applications join, leave, publish, vouch for themselves and resign."""

from __future__ import annotations

from tests.simulation.process import Process
from tests.simulation.scenes.common import rejoin
from tests.simulation.town import Town
from tests.simulation.world import Script


def bustle(town: Town) -> Script:
    """Applications join, leave, publish and resign, while it is allowed to."""
    rng = town.world.rng
    while True:
        yield rng.expovariate(1.0)
        if town.bustle and town.well:
            do_something(town, rng.choice(town.well))


def do_something(town: Town, process: Process) -> None:
    rng = town.world.rng
    agents = [a for a in process.agents if a.me.member_id]
    if not agents or process.plan.name == "rival":
        return
    agent = rng.choice(agents)
    seat = next(s for s in process.plan.seats if s.member_id == agent.me.member_id)
    joined = [m for a, m in town.joined(process) if a is agent]
    what = rng.choice(("join", "leave", "publish", "publish", "unready", "ready", "ready for", "resign"))
    if what == "join":
        process.join(
            agent,
            rng.choice(town.groups),
            stand=rng.random() < 0.9,
            follow=seat.follow,
            on_conflict=seat.on_conflict,
        )
    elif what == "ready":
        process.say_ready(agent, True)
    elif what == "unready":
        process.say_ready(agent, False)
    elif what == "ready for":
        process.say_ready(agent, True, rng.uniform(0.5, 10))
    elif joined:
        membership = rng.choice(joined)
        if what == "leave" and len(joined) > 1:
            process.leave(agent, membership.group)
            if rng.random() < 0.5:
                town.world.after(rng.expovariate(1.0), rejoin, town, process, agent, membership.group)
        elif what == "publish":
            process.publish(agent, membership)
        elif what == "resign":
            process.resign(agent, membership)
    process.poke()
