"""A small library, and edits of it that reach a job, each in a way of its own."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

BALL = """
    from __future__ import annotations

    import re
    from typing import TYPE_CHECKING

    import numpy as np

    if TYPE_CHECKING:
        from resilience.shapes import Shape

    LIMIT = 1
    UNUSED = re.compile("1")


    def ball(size: int = 3) -> Shape:
        \"\"\"A ball.\"\"\"
        return np.ones(size) * LIMIT


    def other() -> int:
        return LIMIT - 1
    """
LIBRARY = {
    "resilience/__init__.py": "",
    "resilience/attacks/__init__.py": "",
    "resilience/attacks/ball.py": BALL,
    "resilience/shapes.py": "class Shape:\n    corners = 1\n",
    "resilience/progress.py": "def shown(): return 1\n",
    "resilience/sets_type.py": "import torch\n\n_ = torch.set_default_dtype(torch.float64)\n\n\ndef unused(): return 1\n",
    "resilience/leads_there.py": "from resilience import sets_type\n\n\ndef call(): return 1\n",
    "resilience/registry.py": """
        REGISTRY = {}


        def register(function):
            REGISTRY[function.__name__] = function
            return function


        class Base:
            kinds = []

            def __init_subclass__(cls):
                Base.kinds.append(cls)


        def marked(**traits):
            def mark(function):
                return function

            return mark
        """,
    "script.py": "",
    "plain.py": "",
    "apart.py": "from resilience.shapes import Shape\n\nShape()\n",
    "own.py": "def own(): return 1\n",
}
#: What is edited, unless a case says otherwise: a constant that a function reads.
LIMIT = ("resilience/attacks/ball.py", "LIMIT = 1", "LIMIT = 2")
NOT_REACHED = ("resilience/attacks/ball.py", "LIMIT - 1", "LIMIT - 2")


class Case(NamedTuple):
    """The text of the script, an edit, the jobs whose code changes with it, and other files."""

    script: str
    edit: tuple[str, str, str] = LIMIT
    changes: frozenset[str] | set[str] = frozenset({"script"})
    files: Mapping[str, str] = MappingProxyType({})


def in_script(old: str, new: str) -> tuple[str, str, str]:
    return "script.py", old, new


REACHED = {
    "a function": Case("from resilience.attacks.ball import ball\nball()\n"),
    "a function by another name": Case("from resilience.attacks.ball import ball as f\nf()\n"),
    "a module": Case("from resilience.attacks import ball\nball.ball()\n"),
    "a module by its full name": Case("import resilience.attacks.ball\nresilience.attacks.ball.ball()\n"),
    "a module by its full name, short": Case("import resilience.attacks.ball as b\nb.ball()\n"),
    "a package's module": Case("import resilience.attacks.ball\nfrom resilience import attacks\nattacks.ball.ball()\n"),
    "what a package hands on": Case(
        "from resilience.attacks import ball as f\nf()\n",
        files={"resilience/attacks/__init__.py": "from resilience.attacks.ball import ball\n"},
    ),
    "what another module hands on": Case(
        "from resilience import hands_on\nhands_on.ball()\n",
        files={"resilience/hands_on.py": "from resilience.attacks.ball import ball\n"},
    ),
    "a relative import": Case(
        "from resilience.attacks import relative\nrelative.call()\n",
        files={"resilience/attacks/relative.py": "from .ball import ball\n\n\ndef call(): return ball()\n"},
    ),
    "a relative import of a package": Case(
        "from resilience.attacks import relative\nrelative.call()\n",
        files={"resilience/attacks/relative.py": "from ..attacks import ball\n\n\ndef call(): return ball.ball()\n"},
    ),
    "an import inside try": Case(
        "try:\n    from resilience.attacks.ball import ball\nexcept ImportError:\n    raise\nball()\n"
    ),
    "an import inside if": Case("if True:\n    from resilience.attacks import ball\nball.ball()\n"),
    "an import inside a function": Case("def f():\n    from resilience.attacks.ball import ball\n    ball()\nf()\n"),
    "an import inside a class": Case("class A:\n    from resilience.attacks.ball import ball\nA.ball()\n"),
    "an import of everything": Case("from resilience.attacks.ball import *\nball()\n"),
    "a module by an alias": Case("from resilience.attacks import ball\nmodule = ball\nmodule.ball()\n"),
    "a module in a container": Case("from resilience.attacks import ball\n{'it': ball}['it'].ball()\n"),
    "a module as an argument": Case("from resilience.attacks import ball\n(lambda module: module.ball())(ball)\n"),
    "getattr": Case("from resilience.attacks import ball\ngetattr(ball, 'ball')()\n"),
    "getattr of a package": Case("import resilience.attacks.ball\ngetattr(resilience.attacks, 'ball').ball()\n"),
    "the names of a module": Case("from resilience.attacks import ball\nball.__dict__['ball']()\n"),
    "globals": Case("from resilience.attacks.ball import ball\ndef f(name): globals()[name]()\nf('ball')\n"),
    "import_module": Case("import importlib\nimportlib.import_module('resilience.attacks.ball').ball()\n"),
    "import_module by itself": Case(
        "from importlib import import_module\nimport_module('resilience.attacks.ball').ball()\n"
    ),
    "import_module of a name that is computed": Case(
        "import importlib\nname = 'ball'\nimportlib.import_module(f'resilience.attacks.{name}').ball()\n"
    ),
    "import_module inside a function": Case(
        "def f(name):\n    from importlib import import_module as i\n    return i(name)\nf('resilience.attacks.ball')\n"
    ),
    "__import__": Case("__import__('resilience.attacks.ball').attacks.ball.ball()\n"),
    "exec": Case("exec('from resilience.attacks.ball import ball; ball()')\n"),
    "sys.modules": Case("import sys\nfrom resilience.attacks import ball\nsys.modules['resilience.attacks.ball'].ball()\n"),
    "sys.modules by getattr": Case("import sys\nimport resilience.attacks.ball\ngetattr(sys, 'modules')\n"),
    "the subclasses of a class": Case(
        "from resilience import round, shapes\n\ndef f(kind): return kind.__subclasses__()\nf(shapes.Shape)\n",
        ("resilience/round.py", "corners = 0", "corners = 2"),
        files={"resilience/round.py": "from resilience.shapes import Shape\n\n\nclass Round(Shape):\n    corners = 0\n"},
    ),
    "a function in a table": Case(
        "from resilience import table\ntable.TABLE['f']()\n",
        files={"resilience/table.py": "from resilience.attacks.ball import ball\n\nTABLE = {'f': ball}\n"},
    ),
    "a function that a decorator registers": Case(
        "from resilience import registered, registry\nregistry.REGISTRY['f']()\n",
        ("resilience/registered.py", "return 1", "return 2"),
        files={"resilience/registered.py": "from resilience.registry import register\n\n\n@register\ndef f(): return 1\n"},
    ),
    "a function that a statement registers": Case(
        "from resilience import registered, registry\nregistry.REGISTRY['f']()\n",
        ("resilience/registered.py", "return 1", "return 2"),
        files={
            "resilience/registered.py": "from resilience import registry\ndef f(): return 1\nregistry.REGISTRY['f'] = f\n"
        },
    ),
    "a class that its base registers": Case(
        "from resilience import registered, registry\nregistry.Base.kinds[0].f()\n",
        ("resilience/registered.py", "return 1", "return 2"),
        files={"resilience/registered.py": "from resilience.registry import Base\nclass A(Base):\n    def f(): return 1\n"},
    ),
    "a class that its base registers under another name": Case(
        "from resilience import registered, registry\nregistry.Base.kinds[0].f()\n",
        ("resilience/registered.py", "return 1", "return 2"),
        files={
            "resilience/registered.py": """
                from resilience.registry import Base

                B = Base


                class A(B):
                    def f(): return 1
                """
        },
    ),
    "a class that its base of others registers": Case(
        "import yaml\nfrom resilience import registered\nyaml.unsafe_load('!a {}')\n",
        ("resilience/registered.py", "return 1", "return 2"),
        files={
            "resilience/registered.py": """
                import yaml

                B = yaml.YAMLObject


                class A(B):
                    yaml_tag = "!a"
                    def f(): return 1
                """
        },
    ),
    "a decorator that is an attribute of a harmless one": Case(
        "from resilience import registered\n",
        ("resilience/registered.py", "return 1", "return 2"),
        files={
            "resilience/registered.py": """
                from resilience.registry import marked, register

                marked.too = register


                @marked.too
                def f(): return 1
                """
        },
    ),
    "an effect of an operator of others than it seems": Case(
        "from resilience import operator\n",
        ("resilience/kinds.py", "append(1)", "append(2)"),
        files={
            "resilience/operator.py": "from resilience.kinds import KIND\n\nIT = KIND\nUNUSED = IT | 1\n",
            "resilience/kinds.py": """
                from resilience.registry import Base


                class Kind:
                    def __or__(self, other): Base.kinds.append(1)


                KIND = Kind()
                """,
        },
    ),
    "a function that is put in the place of another": Case(
        "from resilience.attacks import ball\nfrom resilience import patch\nball.other()\n",
        ("resilience/patch.py", "return 1", "return 2"),
        files={"resilience/patch.py": "from resilience.attacks import ball\n\n\ndef f(): return 1\n\n\nball.other = f\n"},
    ),
    "a decorator that hands the function back no more": Case(
        "from resilience import marked\n",
        ("resilience/registry.py", "        return function", "        return REGISTRY.setdefault('f', function)"),
        files={"resilience/marked.py": "from resilience.registry import marked\n\n\n@marked()\ndef f(): return 1\n"},
    ),
    "an effect": Case("from resilience import sets_type\n", ("resilience/sets_type.py", "float64", "float32")),
    "an effect of what is imported on the way": Case(
        "from resilience import leads_there\nleads_there.call()\n", ("resilience/sets_type.py", "float64", "float32")
    ),
    "an effect of a package": Case(
        "from resilience.attacks.ball import ball\nball()\n",
        ("resilience/attacks/__init__.py", "64", "32"),
        files={"resilience/attacks/__init__.py": "import torch\n\ntorch.set_default_dtype(torch.float64)\n"},
    ),
    "an effect of what is imported inside try": Case(
        "try:\n    import resilience.sets_type\nexcept ImportError:\n    pass\n", ("resilience/sets_type.py", "64", "32")
    ),
    "an effect of a default": Case(
        "from resilience import default\n",
        ("resilience/default.py", "3", "4"),
        files={"resilience/default.py": "import torch\n\n\ndef unused(x=torch.manual_seed(3)): return x\n"},
    ),
    "an effect of a class": Case(
        "from resilience import kind\n",
        ("resilience/kind.py", "3", "4"),
        files={"resilience/kind.py": "import torch\n\n\nclass Unused:\n    torch.manual_seed(3)\n"},
    ),
    "an effect behind a constant": Case(
        "from resilience import constant\n",
        ("resilience/constant.py", "3", "4"),
        files={"resilience/constant.py": "import torch\n\nUNUSED = [torch.manual_seed(3)]\n"},
    ),
    "an effect of an operator": Case(
        "from resilience import operator\n",
        ("resilience/operator.py", "append(1)", "append(2)"),
        files={
            "resilience/operator.py": """
                from resilience.registry import Base


                class Kind:
                    def __or__(self, other): Base.kinds.append(1)


                KIND = Kind()
                UNUSED = KIND | 1
                """
        },
    ),
    "the order of what a script does": Case(
        "from resilience.attacks.ball import ball\nball(1)\nball(2)\n", in_script("ball(1)\nball(2)", "ball(2)\nball(1)")
    ),
    "the order of effects": Case(
        "import resilience.seeds\n",
        ("resilience/seeds.py", "seed(1)\ntorch.manual_seed(2)", "seed(2)\ntorch.manual_seed(1)"),
        files={"resilience/seeds.py": "import torch\n\ntorch.manual_seed(1)\ntorch.manual_seed(2)\n"},
    ),
    "the order of imports with effects": Case(
        "import resilience.sets_type\nimport resilience.sets_other\n",
        in_script("sets_type\nimport resilience.sets_other", "sets_other\nimport resilience.sets_type"),
        files={"resilience/sets_other.py": "import torch\n\ntorch.set_default_dtype(torch.float32)\n"},
    ),
    "the order of what a name is bound to": Case(
        "from resilience.twice import f\nf()\n",
        ("resilience/twice.py", "X = 1\nX = 2\n", "X = 2\nX = 1\n"),
        files={"resilience/twice.py": "X = 1\nX = 2\n\n\ndef f(): return X\n"},
    ),
    "a name that is imported and then bound": Case(
        "from resilience import twice\ntwice.ball()\n",
        files={"resilience/twice.py": "from resilience.attacks.ball import ball\n\nball = (lambda f: f)(ball)\n"},
    ),
    "a name that an inner function declares global": Case(
        "from resilience.shared import f\nf()\n",
        ("resilience/shared.py", "X = 1", "X = 2"),
        files={
            "resilience/shared.py": """
                X = 1


                def f():
                    X = 3
                    def inner():
                        global X
                        return X
                    return inner() + X
                """
        },
    ),
    "a function of others by the same name": Case(
        "from math import sin as f\nf(1)\n", in_script("import sin as f", "import cos as f")
    ),
    "a function of others in the library": Case(
        "from resilience.waves import wave\nwave()\n",
        ("resilience/waves.py", "import sin as f", "import cos as f"),
        files={"resilience/waves.py": "from math import sin as f\n\n\ndef wave(): return f(1)\n"},
    ),
    "another package": Case("import resilience.shapes\n", ("resilience/shapes.py", "class", "import seaborn\n\n\nclass"),
                            {"script", "apart"}),
    "a docstring that is read": Case(
        "from resilience.attacks.ball import ball\nprint(ball.__doc__)\n",
        ("resilience/attacks/ball.py", "A ball.", "The ball."),
    ),
    "a docstring that is read by name": Case(
        "from resilience.attacks.ball import ball\nprint(getattr(ball, '__doc__'))\n",
        ("resilience/attacks/ball.py", "A ball.", "The ball."),
    ),
    "an annotation that is read": Case(
        "import typing\nfrom resilience.attacks.ball import ball\ntyping.get_type_hints(ball)\n",
        ("resilience/attacks/ball.py", "size: int", "size: float"),
    ),
    "an annotation that is read under another name": Case(
        "from typing import get_type_hints as hints\nfrom resilience.attacks.ball import ball\nhints(ball)\n",
        ("resilience/attacks/ball.py", "size: int", "size: float"),
    ),
    "an annotation that is evaluated": Case(
        "from resilience.evaluated import f\nf()\n",
        ("resilience/shapes.py", "corners = 1", "corners = 2"),
        {"script", "apart"},
        {"resilience/evaluated.py": "from resilience.shapes import Shape\n\n\ndef f(shape: Shape = None): return 1\n"},
    ),
    "a field of a dataclass": Case(
        "from resilience.record import Record\nRecord()\n",
        ("resilience/record.py", "size: int", "size: ClassVar[int]"),
        files={
            "resilience/record.py": """
                from __future__ import annotations

                from dataclasses import dataclass
                from typing import ClassVar


                @dataclass
                class Record:
                    size: int = 3
                """
        },
    ),
    "a module that is no Python": Case(
        "import resilience.broken\n", ("resilience/broken.py", "1", "2"), files={"resilience/broken.py": "def 1(:\n"}
    ),
}  # fmt: skip
