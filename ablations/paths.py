"""Where the project's own folders are, whatever the working directory."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
MLRUNS = ROOT / "mlruns"
REPORTS = ROOT / "reports"
