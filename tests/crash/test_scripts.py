import random

from tests.crash.scripts import Script, draw, hash_of, read_script

SCRIPT = Script("c1.2", "canaryamber", (("look",), ("count_once", "count_again")), words=3, vary=True)


def test_a_script_travels_in_a_message():
    assert read_script(SCRIPT.message()) == SCRIPT
    assert Script("c1.2").message() == 'crash {"token":"c1.2"}'
    assert [read_script(text) for text in ("hello", "crash", "crash {", 'crash {"words":1}')] == [None] * 4


def test_its_replies_can_be_worked_out_by_anybody():
    assert SCRIPT.replies == 3
    assert SCRIPT.text(1) == "c1.2/1/try1 w0 w1 canaryamber"
    assert SCRIPT.text(3, asked=2) == "c1.2/3/try2 w0 w1 w2 canaryamber"
    assert SCRIPT.calls(2) == [
        ("count_once", '{"token":"c1.2","place":"2.1","ms":0}'),
        ("count_again", '{"token":"c1.2","place":"2.2","ms":0}'),
    ]
    assert SCRIPT.calls(3) == []
    assert SCRIPT.completion_tokens(2) == 4 + 10


def test_a_draw_depends_on_its_randomness_alone():
    assert [draw(random.Random(7), "t", "c", faults=True) for _ in range(2)] == [
        draw(random.Random(7), "t", "c", faults=True)
    ] * 2


def test_a_hash_tells_arguments_apart():
    assert hash_of("{}") == hash_of("{}") != hash_of('{"a":1}')
