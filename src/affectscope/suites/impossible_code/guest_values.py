"""In the box: what the function gives for arguments, told to a parent that alone knows what is right.

`guest_values.py NAME METERED` reads a JSON line per question, ``{"nonce", "args"}``, and answers each with its nonce and
``value`` or ``error``, and ``reads`` where elements are counted. The solution sees neither stream.
"""

import contextlib
import io
import json
import os
import sys


def main() -> None:
    """Answer every question, each on copies of its arguments."""
    questions = [json.loads(line) for line in sys.stdin]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    name, metered = sys.argv[1], sys.argv[2] == "1"
    del sys.argv[1:]
    from metered import Metered

    solve = getattr(__import__("solution"), name)
    for question in questions:
        answer = {"nonce": question["nonce"]}
        args = [Metered(question["args"][0])] if metered else question["args"]
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                answer["value"] = solve(*args)
            json.dumps(answer)
        except BaseException as error:  # an exit is an answer too
            answer = {"nonce": question["nonce"], "error": f"{type(error).__name__}: {error}"[:300]}
        if metered:
            answer["reads"] = args[0].reads
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
