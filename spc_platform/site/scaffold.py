"""Writes a small site folder that loads as it is, as a start for a plant's own."""

from __future__ import annotations

from pathlib import Path

from spc_platform.errors import SiteError

SITE_TOML = """\
# The site: identity, clock and the production dates that exist.
site_id = "{site_id}"
name = "{site_id}"
zone = "Europe/Berlin"                # IANA time zone of the plant's wall clock
day_start = "06:00"                   # the production day runs from here to here, local time
first_production_date = 2026-01-05
# last_production_date = 2026-12-31   # leave out for a plant that runs on
# owner = "team:quality"              # shown as the owner of the tables
"""

POLICIES_TOML = """\
# Decisions of the plant. Every key has a default; those below are the defaults.
micro_stop_s = 300.0       # a stop shorter than this is a minor stoppage
carry_days = 7             # previous production dates that a run rule may look back on
rule_reset_gap_h = 72.0    # a longer gap between points resets the run rules
state_carry_days = 3       # previous production dates searched for a state that still lasts
confidence = 0.95          # of capability intervals
clock_skew_s = 300.0       # an event may lie this far after its own recording
horizon_days = 3650        # events older than this before the first production date are refused
state_rules_set = "mtconnect"  # how signals make states where there is no state_rules.csv: mtconnect or opc_40001
debounce_s = 0.0           # a state made of signals that lasts less is merged into the one before it
# silence_s = 600.0        # after that long without a word a unit is UNKNOWN; leave out where signals speak only on change

[baseline]                 # the first complete baseline of a chart becomes limit version 1
subgroups = 25
individuals = 100
k = 3.0
approved_by = "site policy"
reason = "first complete baseline of the chart"
estimate_window_days = 30
"""

SOURCES_TOML = """\
# Where records come from. Secrets never stand here, only the names of the variables that hold them.
[[source]]
source_id = "mes"
kind = "rest"                         # rest or files
base_url = "http://127.0.0.1:8010"
poll_s = 30.0

[source.auth]
kind = "oauth2_client"
token_path = "/oauth/token"
client_id_env = "SPC_MES_CLIENT_ID"
client_secret_env = "SPC_MES_CLIENT_SECRET"

[source.pagination]
kind = "next_link"
next = "next"
limit_param = "limit"
page_size = 1000

[[source.resource]]
name = "measurements"
tables = ["raw_measurement"]
format = "json_records"
path = "/api/v1/measurements"
records = "data"
overlap_s = 300                       # read this far back again for records written late

[source.resource.options]
since_param = "updated_since"

[source.resource.fields]              # column of the platform = field of the source
record_id = "id"
revision = "rev"
updated_at = "updated_at"
is_deleted = "deleted"
characteristic_id = "characteristic"
equipment_id = "station"
measured_at = "measured_at"
value = "value"
unit = "unit"
serial_number = "serial"
material_lot_id = "lot"
job_order_id = "order"
subgroup_key = "sample"
"""

CSV_FILES = {
    "equipment": """\
equipment_id,equipment_level,parent_equipment_id,description
{site_id},site,,Plant
L1,work_center,{site_id},Line 1
L1-LATHE,work_unit,L1,Lathe
""",
    "characteristics": """\
characteristic_id,equipment_id,description,unit,chart,subgrouping,subgroup_size,estimator,rule_set,counted,weight,span,reference,decision,head_start,distribution,sensor_min,sensor_max,iqr_multiplier,hampel_window,hampel_multiplier
SHAFT-DIA,L1-LATHE,Shaft diameter,mm,xbar_r,consecutive,5,rbar,western_electric,,,,,,,,0,100,3.0,,
""",
    "specifications": """\
characteristic_id,version,effective_from,effective_to,lsl,target,usl,unit,resolution
SHAFT-DIA,1,2026-01-01,,24.95,25.0,25.05,mm,0.001
""",
    "streams": """\
stream_id,equipment_id,description,unit,grid_s,hold_below,interpolate_up_to,imputation,clock_offset_s,join_tolerance_s,sensor_min,sensor_max
L1-LATHE-TEMP,L1-LATHE,Coolant temperature,degC,5,3,5,none,0,30,-20,120
""",
    "products": """\
material_definition_id,equipment_id,pri_s,effective_from,effective_to
SHAFT,L1-LATHE,30,2026-01-01,
""",
    "states": """\
source_state,state,time_element,priority
RUN,RUN,APT,10
SETUP,SETUP,AUST,20
STOP,STOP,ADET,30
IDLE,IDLE,ADOT,5
""",
    "reasons": """\
reason_code,description,time_element,loss_category
TOOL,Tool change,,equipment_failure
MAINT,Planned maintenance,PDT,
""",
    "shifts": """\
shift_id,work_center_id,start_local,end_local,weekdays,effective_from,effective_to
EARLY,*,06:00,14:00,12345,,
LATE,*,14:00,22:00,12345,,
NIGHT,*,22:00,06:00,12345,,
""",
    "breaks": """\
shift_id,work_center_id,start_local,end_local,description
EARLY,*,09:00,09:30,Breakfast
""",
    "calendar": """\
entry_id,equipment_id,kind,start_at,end_at,recorded_at,description
NEW-YEAR,{site_id},holiday,2026-01-01T06:00,2026-01-02T06:00,2025-11-01,New Year
""",
}


def scaffold(folder: Path, site_id: str) -> list[Path]:
    """Write a small valid site folder and return its files; ``load_site`` accepts it unchanged.

    Raises SiteError when the folder holds anything already, or the identity has other characters than
    letters, digits, dot, dash and underscore.
    """
    folder = Path(folder)
    if (
        not site_id.replace("-", "").replace("_", "").replace(".", "").isalnum()
        or not site_id.isascii()
        or not site_id[0].isalnum()
    ):
        raise SiteError(f"site_id is {site_id!r}; use letters, digits, dot, dash and underscore, e.g. plant-1")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SiteError(f"{folder} is not an empty folder; name a new one, nothing in it was changed")
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"site.toml": SITE_TOML, "policies.toml": POLICIES_TOML, "sources.toml": SOURCES_TOML}
    texts |= {f"{name}.csv": text for name, text in CSV_FILES.items()}
    return [_write(folder / name, text.replace("{site_id}", site_id)) for name, text in texts.items()]


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
