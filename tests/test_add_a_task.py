"""docs/guides/add-a-task.md: its task holds to the contract, and trains by its name."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

AMOUNTS = ("so little", "a good deal", "all")
GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "add-a-task.md"


def test_the_task_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minilm: Path) -> None:
    module, check = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "ratings.py").write_text(module, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "ratings", raising=False)
    import ratings

    exec(compile(check, str(GUIDE), "exec"), {"OrdinalRating": ratings.OrdinalRating})  # noqa: S102 - the guide's own block
    rows = "".join(f"a film worth {AMOUNTS[i % 3]} of it {i},{i % 3 + 1}\n" for i in range(48))
    (tmp_path / "reviews.csv").write_text("text,label\n" + rows)
    (command,) = re.findall(r"^```bash\n(.*?)^```", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    more = "train.num_train_epochs=6 train.learning_rate=5e-4 train.batch_size=8 train.threads=1 train.seed=0"
    here = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    script = f"{command.strip()} {more} output.dir=run && echo a film worth all of it | PYTHONPATH=. thawline predict run -"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["accuracy"] > 0.6
    assert '"3"' in done.stdout
