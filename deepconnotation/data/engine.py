"""Where the processor's work is done: on this machine's cores, or on a Ray cluster."""

import contextlib
import itertools
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from deepconnotation.console import UserError, one_line

ENGINES = ("local", "ray")
WAITING = 4  # tasks a core that are handed out before their results are taken


def run(engine: str, function: Callable, tasks: Sequence[tuple], workers: int | None) -> Iterator:
    """Yield `function(*task)` for every task: here in the tasks' order, on Ray as they are done.

    Args:
        engine: one of `ENGINES`. Ray's tasks need the same files under the same paths on every
            machine; a task whose machine is lost is done again on another.
        function: of the top level of a module.
        tasks: its arguments.
        workers: processes on this machine; None takes one a core. A cluster has its own.

    Raises:
        UserError: when Ray is not installed or its cluster does not answer.
    """
    if engine == "ray":
        yield from _on_ray(function, tasks)
    else:
        yield from _here(function, tasks, workers)


def _here(function: Callable, tasks: Sequence[tuple], workers: int | None) -> Iterator:
    workers = min(workers or os.cpu_count() or 1, max(len(tasks), 1))
    with worker_pool(workers) as pool:
        futures = [pool.submit(function, *task) for task in tasks]
        try:
            for future in futures:
                yield future.result()
        finally:  # after Ctrl-C, nothing more is begun
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def worker_pool(workers: int | None = None) -> Iterator[ProcessPoolExecutor]:
    """Yield processes that leave Ctrl-C to this one and end with it, however it ends.

    Args:
        workers: how many; None takes one a core.

    Raises:
        UserError: when one of them was killed.
    """
    try:
        with ProcessPoolExecutor(workers, initializer=_follow_the_parent) as pool:
            yield pool
    except BrokenProcessPool:
        raise UserError("a worker process was killed (is memory short?); given again, the command "
                        "goes on") from None  # fmt: skip


def _follow_the_parent() -> None:
    for each in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to all processes
        signal.signal(each, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _on_ray(function: Callable, tasks: Sequence[tuple]) -> Iterator:
    try:
        import ray
    except ImportError:
        raise UserError("--engine ray: pip install deepconnotation[ray]") from None
    try:
        # RAY_ADDRESS names a cluster; without it Ray starts one on this machine.
        ray.init(log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
    except (ConnectionError, ValueError, RuntimeError) as error:
        words = one_line(error)[:200]
        raise UserError(f"--engine ray: no cluster ({words}); see RAY_ADDRESS") from None
    task = ray.remote(num_cpus=1, max_retries=-1)(function)
    room = WAITING * max(int(ray.cluster_resources().get("CPU", 1)), 1)
    waiting, rest = [], iter(tasks)
    try:
        while True:
            waiting += [task.remote(*t) for t in itertools.islice(rest, room - len(waiting))]
            if not waiting:
                return
            done, waiting = ray.wait(waiting, num_returns=1)
            yield from ray.get(done)
    except ray.exceptions.RayError as error:
        words = one_line(error)[:200]
        raise UserError(f"--engine ray: {words}; the same command goes on") from None
