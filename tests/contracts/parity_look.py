"""What a process says of itself, so that a notebook's and its workers' answers can be compared."""

from __future__ import annotations

PARITY_LOOK = """
import json, os, re, resource
def mounts():
    found = {}
    for line in open("/proc/self/mountinfo"):
        words = line.split()
        target, options = words[4], set(words[5].split(","))
        if not re.match(r"/(proc|sys|dev|run|tmp|etc)(/|$)", target) and target != "/":
            found[target] = (words[3], "ro" if "ro" in options else "rw")
    return found
print(json.dumps({
    "mounts": mounts(), "uid": os.getuid(), "gid": os.getgid(), "groups": sorted(os.getgroups()),
    "root": "ro" if os.statvfs("/").f_flag & os.ST_RDONLY else "rw",
    "rights": [one for one in open("/proc/self/status") if one.startswith(("Cap", "NoNewPrivs", "Seccomp:"))],
    "limits": [resource.getrlimit(one) for one in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)],
}))
"""
