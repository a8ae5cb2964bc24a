"""One target fed by libFuzzer, which keeps what reaches new code: started by `scripts/fuzz`.

`python -m tests.fuzz.endless TARGET [options and folders of libFuzzer]`, with atheris on the path.
"""

import random
import sys

from tests.fuzz.bending import bent
from tests.fuzz.corpus import kept


def main() -> None:
    import atheris

    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["balancer", "healthcheck"]):
        from tests.fuzz.targets import TARGETS

    others = kept(name)

    def mutate(data: bytes, size_max: int, seed: int) -> bytes:
        """Half of all inputs as libFuzzer bends them, half as somebody would who knows the grammar."""
        rng = random.Random(seed)
        if rng.random() < 0.5:
            return bytes(atheris.Mutate(data, size_max))
        for _ in range(rng.choice((1, 1, 2, 4))):
            data = bent(data, others, rng)
        return data[:size_max]

    atheris.Setup(sys.argv, TARGETS[name], custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
