"""The servers of a store, who of them leads, and what they believe.

      elected                     stopped, or cut off                  the others have waited long enough
    ───────────► leads, and does ─────────────────────► nobody leads ────────────────────────────────────► ...
                                                             │ it goes on before that: it leads as before

A server that was stopped, or is cut off, does not know what the others have decided since. Who led goes on in
good faith for a while, and who followed goes on following: `in_touch` says who is right. What a majority has
agreed to, nobody forgets.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.world import HostClock, World, some_rate

SERVERS = 3

ELECTION = (0.1, 0.35)
"""Parts of the shortest ttl that an election takes, from when the leader was lost."""

FAITH = (0.02, 0.6)
"""Seconds for which a server that was stopped believes what it believed before."""

BLIND_FAITH = (0.5, 3.0)
"""Seconds for which one that is cut off does: it hears of nothing."""


class Machine:
    """One server."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.clock = HostClock(world, some_rate(world.rng), world.rng.uniform(0, 1e6))
        self.applied = 0
        """What it can show: all changes up to this one."""
        self.up = True
        self.paused = self.cut = False
        self.term = 0
        """Of the leader in which it believes; 0: in none."""
        self.leads = False
        """Whether it believes that it leads."""
        self.expiries: dict[str, float] = {}
        """As far as it knows: when what it would end is over, by its own clock."""

    @property
    def runs(self) -> bool:
        return self.up and not self.paused

    @property
    def well(self) -> bool:
        """Whether it can talk with the others."""
        return self.runs and not self.cut


class Ensemble:
    """All of them. `elected`: told when one leads; `back`: when one follows again."""

    def __init__(
        self,
        world: World,
        election: float,
        elected: Callable[[Machine], None],
        back: Callable[[Machine], None],
    ) -> None:
        self._world, self._election = world, election
        self._elected, self._back = elected, back
        self.machines = [Machine(world, f"server{n}") for n in range(SERVERS)]
        self.term = 1
        self.leader: Machine | None = self.machines[0]
        self.last = self.machines[0]
        """Who leads, or led last."""
        self.last.leads = True
        for machine in self.machines:
            machine.term = 1

    def in_touch(self, machine: Machine) -> bool:
        """Whether what it asks of the leader reaches the one who leads."""
        return self.leader is not None and machine.well and machine.term == self.term

    @property
    def followers(self) -> list[Machine]:
        return [machine for machine in self.machines if machine is not self.leader]

    # ── what happens to them ──

    def crash(self, machine: Machine) -> None:
        self._world.note("crash of", machine.name)
        machine.up, machine.leads, machine.term, machine.expiries = False, False, 0, {}
        self._without(machine)

    def restart(self, machine: Machine) -> None:
        if not machine.up:
            machine.up = True
            self._later(FAITH, self._rejoin, machine)

    def pause(self, machine: Machine) -> None:
        self._world.note("pause of", machine.name)
        machine.paused = True
        self._without(machine)

    def resume(self, machine: Machine) -> None:
        """It goes on where it stopped, and believes what it believed."""
        if machine.paused:
            self._world.note("resume of", machine.name)
            machine.paused = False
            self._again(machine)
            self._later(FAITH, self._rejoin, machine)

    def cut(self, machine: Machine) -> None:
        """The other servers do not reach it, nor it them; who asks something of it does."""
        self._world.note("cut off", machine.name)
        machine.cut = True
        self._without(machine)
        self._later(BLIND_FAITH, self._despair, machine)

    def mend(self, machine: Machine) -> None:
        if machine.cut:
            machine.cut = False
            self._again(machine)
            self._later(FAITH, self._rejoin, machine)

    def heal(self) -> None:
        for machine in self.machines:
            self.restart(machine)
            self.resume(machine)
            self.mend(machine)

    # ── what they do about it ──

    def _later(self, span: tuple[float, float], what: Callable[[Machine], None], machine: Machine) -> None:
        self._world.after(self._world.rng.uniform(*span), what, machine)

    def _without(self, machine: Machine) -> None:
        if machine is self.leader:
            self.leader = None
            low, high = ELECTION
            wait = self._election * self._world.rng.uniform(low, high)
            self._world.after(wait, self._elect, self.term)

    def _again(self, machine: Machine) -> None:
        """It can be heard again: if no other leads yet, it is as if nothing had been."""
        if self.leader is None and machine.well and machine.leads and machine.term == self.term:
            self.leader = machine

    def _despair(self, machine: Machine) -> None:
        if machine.cut:
            machine.leads, machine.term = False, 0

    def _rejoin(self, machine: Machine) -> None:
        if not machine.well or self.leader is None or machine is self.leader:
            return
        machine.leads, machine.term = False, self.term
        self._back(machine)

    def _elect(self, term: int) -> None:
        """One of those that can talk with each other, if they are a majority. All of them follow it, and
        none is behind it."""
        if self.leader is not None or term != self.term:
            return
        able = [machine for machine in self.machines if machine.well]
        if len(able) <= SERVERS // 2:
            self._world.after(self._election * ELECTION[0], self._elect, term)
            return
        self.term += 1
        self.leader = self.last = leader = self._world.rng.choice(able)
        for machine in able:
            machine.leads, machine.term = machine is leader, self.term
        self._world.note("elected", leader.name, self.term)
        self._elected(leader)
        for machine in able:
            self._back(machine)
