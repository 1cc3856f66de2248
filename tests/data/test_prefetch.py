import threading

import pytest

from cssegcore.core.errors import InputError
from cssegcore.data.prefetch import prefetch


def test_one_is_made_while_its_reader_has_the_one_before():
    made, threads, third = [], set(), threading.Event()

    def items():
        for number in range(5):
            threads.add(threading.get_ident())
            made.append(number)
            if number == 2:
                third.set()
            yield number

    reader = prefetch(items())
    assert next(reader) == 0
    assert next(reader) == 1
    assert third.wait(10)  # nobody has asked for it yet
    assert list(reader) == [2, 3, 4]
    assert made == list(range(5))
    assert threading.get_ident() not in threads


def test_what_goes_wrong_there_is_raised_here():
    def items():
        yield 0
        raise InputError("no more")

    reader = prefetch(items())
    assert next(reader) == 0
    with pytest.raises(InputError, match="no more"):
        next(reader)


def test_a_reader_that_leaves_ends_it():
    before = threading.active_count()
    reader = prefetch(iter(range(100)))
    next(reader)
    assert threading.active_count() == before + 1
    reader.close()
    assert threading.active_count() == before
