"""Names and experiment files that mean harm, drawn by a seed: paths that climb, markup, control characters, YAML that runs or
grows."""

import random
from collections.abc import Callable

MARKUP = "<img src=x onerror=alert(1)>"
SENTINEL = "pwned"
N_NAMES, N_FILES = 150, 150

_FRAGMENTS = (
    *(
        "..",
        "../",
        "..\\",
        "/etc/passwd",
        "/",
        "\\",
        "%2e%2e%2f",
        "....//",
        "~",
        "~root",
        ".",
        "-rf",
        "--help",
        "C:\\",
        "\\\\host\\share",
    ),
    *("\u202e", "\u200b", "\ufeff", "\u0301", "é", "ｅｖｉｌ", "👩‍👩‍👧", "ß", "İ", "\ud800", "／", "．．／", "日本"),
    *("\x00", "\n", "\r\n", "\t", "\x1b[31m", "\x07", "\x7f", "\x08", "\x85", "\u2028"),
    *(
        MARKUP,
        "<script>alert(1)</script>",
        "[a](javascript:alert(1))",
        "![x](http://x/y)",
        "</td>",
        "`",
        "|",
        "*b*",
        "# h",
        "&lt;",
        '"',
        "'",
    ),
    *(
        "$(touch pwned)",
        "`touch pwned`",
        "; touch pwned",
        "&& touch pwned",
        "{0.__class__}",
        "{scene_name}",
        "%s",
        "$HOME",
        "*",
        "?",
        "[a-z]",
    ),
    *("CON", "nul", " ", "  ", "a b", "x" * 200, "x" * 5000, "0" * 300),
)


def names(seed: int = 1) -> list[str]:
    """Names for experiments, runs and scenes; some are harmless, so that refusing everything is not enough."""
    drawn = random.Random(seed)
    good = ["v1", "hi4d_pair00_hug", "lr-5e-5", "A.b_c-d", "0"]
    made = list(dict.fromkeys(["", *_FRAGMENTS, *(f"hi4d_{fragment}" for fragment in _FRAGMENTS), *good]))
    while len(made) < N_NAMES:
        parts = drawn.choices([*_FRAGMENTS, "hi4d_pair00", "v1"], k=drawn.randint(2, 4))
        made.append("".join(parts))
    return made[:N_NAMES]


def files(seed: int = 2) -> list[bytes]:
    """Texts of experiment files `e<number>.yaml`; the number stands in them as `@`."""
    drawn = random.Random(seed)
    made = [maker() for maker in _MAKERS]
    odd = [name for name in names(seed) if name]
    while len(made) < N_FILES:
        made.append(drawn.choice(_WITH_A_NAME)(_quoted(drawn.choice(odd))))
    return [text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text for text in made[:N_FILES]]


def _quoted(text: str) -> str:
    return '"' + "".join(f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}" for c in text) + '"'


_BASE = "exp_name: e@\ngeneration: {{scenes: [{scenes}]{more}}}\nsplit: {{train_only: true}}\n"


def _base(scenes: str = "hi4d_*", more: str = "") -> str:
    return _BASE.format(scenes=scenes, more=more)


def _laughs() -> str:
    lines = ["a: &a [lol,lol,lol,lol,lol,lol,lol,lol,lol]"]
    lines += [f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]" for n in range(9)]
    return "\n".join(lines)


_MAKERS: tuple[Callable[[], str | bytes], ...] = (
    _base,  # A good one among them.
    lambda: "!!python/object/apply:os.system ['touch pwned']",
    lambda: _base() + "runs: !!python/object/apply:os.system ['touch pwned']\n",
    lambda: "exp_name: !!python/name:os.system\n",
    lambda: "exp_name: !!python/module:os\n",
    lambda: "exp_name: !!python/object/new:subprocess.Popen [['touch', 'pwned']]\n",
    lambda: "!!map {? !!python/tuple [1, 2] : 3}",
    lambda: "exp_name: !!binary aGVsbG8=\n",
    lambda: "exp_name: !include /etc/passwd\n",
    _laughs,
    lambda: "a: &a {b: *a}",
    lambda: "base: &b {x: 1}\n<<: *b\n" + _base(),
    lambda: "[" * 20_000,
    lambda: "{a: " * 5_000,
    lambda: "- " * 5_000,
    lambda: "x" * 300_000,
    lambda: _base() + "# " + "x" * 300_000,
    lambda: "exp_name: e@\nexp_name: other\n",
    lambda: "\x00\x01\x02",
    lambda: b"\xff\xfe\x00e\x00x",
    lambda: b"\xef\xbb\xbf" + _base().encode(),
    lambda: b"exp_name: \xed\xa0\x80\n",
    lambda: "",
    lambda: "null",
    lambda: "3",
    lambda: "[1, 2]",
    lambda: "%YAML 9.9\n---\nexp_name: e@\n",
    lambda: "---\nexp_name: e@\n---\nexp_name: e@\n",
    lambda: "exp_name: 2024-01-01\n",
    lambda: f"exp_name: {'9' * 5000}\n",
    lambda: _base(more=", frames: {stride: 1e400}"),
    lambda: _base(more=", frames: {stride: .nan}"),
    lambda: _base(more=f", source_camera: {'9' * 400}"),
    lambda: _base(more=", source_camera: -1"),
    lambda: _base("'../../../etc/*'"),
    lambda: _base("'/etc/passwd'"),
    lambda: _base("'[[[[[[a-'"),
    lambda: _base("'" + "*" * 400 + "'"),
    lambda: "exp_name: e@\ngeneration: {scenes_from: /etc}\nsplit: {train_only: true}\n",
    lambda: "exp_name: e@\ngeneration: {scenes_from: ../../..}\nsplit: {train_only: true}\n",
    lambda: _base(more=", renders: {source: command, command: 'touch pwned; {scene_name.__class__}'}"),
    lambda: _base(more=", renders: {source: command, command: '{0}{scene_name!r:>{render_dir}}'}"),
    lambda: _base(more=', renders: {source: command, command: "echo \'unclosed"}'),
    lambda: _base() + "runs: {'../../../../tmp/pwned': {max_train_steps: 1}}\n",
    lambda: _base() + "runs: {'a/b': {max_train_steps: 1}}\n",
    lambda: _base() + "split2: {}\n",
)
_WITH_A_NAME: tuple[Callable[[str], str], ...] = (
    lambda name: _BASE.replace("e@", name, 1).format(scenes="hi4d_*", more=""),
    lambda name: _base() + f"runs: {{{name}: {{max_train_steps: 1}}}}\n",
    lambda name: _base(name),
    lambda name: _base(more=f", exclude: [{name}]"),
    lambda name: _base(more=f", export: {{prompt: {name}}}"),
    lambda name: f"exp_name: e@\ngeneration: {{scenes_from: {name}}}\nsplit: {{train_only: true}}\n",
    lambda name: _base() + f"evaluation: {{scenes: [{name}]}}\n",
    lambda name: _base() + f"{name}: 1\n",
    lambda name: f"exp_name: e@\ngeneration: {{scenes: ['hi4d_*']}}\nsplit: {{test_groups: {{{name}: [{name}]}}}}\n",
    lambda name: _base(more=f", renders: {{source: command, command: {name}}}"),
)
