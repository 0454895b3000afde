from dragoman.core.resources import Header


def test_a_headers_value_is_shown_nowhere():
    assert repr(Header("Authorization", "Bearer s3cret")) == "Header('Authorization')"
