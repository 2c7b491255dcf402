"""In the box: the test file as anybody would run it. It reads a nonce and prints it when every test has passed.

The nonce comes by a stream that is closed before the solution is loaded, and stands in no argument. A solution that digs it out
of this frame has gained nothing: its values are asked for in another process.
"""

import os
import sys
import traceback


def main() -> None:
    """Run what begins with ``test_``, in order, and exit with 1 when anything failed."""
    nonce = sys.stdin.readline().strip()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    import test_solution

    failed = 0
    tests = [(name, test) for name, test in vars(test_solution).items() if name.startswith("test_")]
    for name, test in tests:
        try:
            test()
        except Exception:
            failed += 1
            print(f"{name} failed:")
            traceback.print_exc(limit=-1, file=sys.stdout)
    print(f"{len(tests) - failed} of {len(tests)} tests passed")
    if failed:
        sys.exit(1)
    print(nonce)


if __name__ == "__main__":
    main()
