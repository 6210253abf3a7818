"""An engine whose thread has died: who waits is told, and a new thread over the same weights answers as the old did."""

import asyncio

from engine.errors import EngineStopped
from engine.plan import StepPlan
from engine.request import GenerationRequest, SamplingParams
from engine.service import Engine
from tests.unit.engine.conftest import MakeEngine
from tests.unit.engine.helpers import ask
from tests.unit.engine.models import Reference


class BrokenRunner:
    """The engine's own runner until it has made `num_steps` steps; then its device is gone."""

    def __init__(self, engine: Engine, num_steps: int) -> None:
        self._runner = engine._loop.runner
        self._num_left = num_steps

    def __getattr__(self, name: str) -> object:
        return getattr(self._runner, name)

    def forward(self, plan: StepPlan) -> object:
        if not self._num_left:
            raise RuntimeError("the device is gone")
        self._num_left -= 1
        return self._runner.forward(plan)


async def crashed(engine: Engine, num_steps: int = 2, num_requests: int = 3) -> list[BaseException | None]:
    """Let the engine die under these requests; what each of them was told."""
    engine._loop.runner = BrokenRunner(engine, num_steps)  # type: ignore[assignment]
    request = GenerationRequest("long", (8, 9), (), SamplingParams(max_tokens=50, ignore_eos=True))

    async def drained() -> BaseException | None:
        try:
            async for _ in await engine.submit(request):
                pass
        except EngineStopped as error:
            return error
        return None

    return await asyncio.wait_for(asyncio.gather(*(drained() for _ in range(num_requests))), 20)


async def test_all_that_run_and_wait_are_told_why(make_engine: MakeEngine) -> None:
    engine = make_engine(max_batch=1)
    told = await crashed(engine)
    assert all(error is not None and "the device is gone" in str(error) for error in told)
    assert not engine.is_healthy


async def test_a_restarted_engine_answers_as_before_with_every_kind_of_expert(
    make_engine: MakeEngine, references: dict[str, Reference]
) -> None:
    engine = make_engine(num_slots=2)

    async def answers() -> list[list[int]]:
        alone = [await ask(engine, [7, 8], [(reference, 1.0)]) for reference in references.values()]
        return [answer.ids for answer in (await ask(engine, [7, 8, 9]), *alone)]

    before = await answers()
    await crashed(engine)
    await asyncio.to_thread(engine.restart)
    await engine.warm_up()
    assert engine.is_healthy
    assert await answers() == before
    assert engine.stats().running == engine.stats().queued == 0


async def test_who_left_before_the_restart_disturbs_nobody_after_it(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine._loop.runner = BrokenRunner(engine, 1)  # type: ignore[assignment]
    request = GenerationRequest("long", (8, 9), (), SamplingParams(max_tokens=50, ignore_eos=True))
    generation = await engine.submit(request)
    while engine.is_healthy:
        await asyncio.sleep(0.001)
    await asyncio.to_thread(engine.restart)
    generation.cancel()
    assert await ask(engine, [7, 8, 9])
    assert engine.is_healthy


async def test_the_crash_is_reported_after_everybody_was_told_and_once_for_each(make_engine: MakeEngine) -> None:
    engine = make_engine()
    reports: list[bool] = []
    engine._loop.on_crash = lambda: reports.append(engine.is_healthy)
    await crashed(engine)
    await asyncio.to_thread(engine.restart)
    assert reports == [False]
    await crashed(engine)
    await asyncio.to_thread(engine.restart)
    assert reports == [False, False]


async def test_an_end_that_was_asked_for_is_no_crash(make_engine: MakeEngine) -> None:
    engine = make_engine()
    reports: list[str] = []
    engine._loop.on_crash = lambda: reports.append("crashed")
    engine.stop()
    assert reports == []


async def test_warming_up_leaves_nothing_behind(make_engine: MakeEngine) -> None:
    engine = make_engine(block_size=1, kv_blocks=200)
    await engine.warm_up()
    stats = engine.stats()
    assert (stats.running, stats.queued, stats.kv_blocks_used) == (0, 0, 0)
    assert stats.generated_tokens == 2
    generation = await engine.submit(GenerationRequest("x", (0, 0, 0), (), SamplingParams(max_tokens=1)))
    async for _ in generation:
        pass
    assert generation.num_cached_tokens == 0
