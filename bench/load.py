"""The load generators: wrk for how much, h2load at a fixed rate for how long."""

import os
import re
import statistics
import subprocess
import sys

from machine import HERE

CONNECTIONS = 16


def cpu_seconds(process):
    """Of a server with all its processes."""
    total, ticks = 0, os.sysconf("SC_CLK_TCK")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        # Its group: every server is started in one of its own.
        if int(fields[2]) == process.pid:
            total += (int(fields[11]) + int(fields[12])) / ticks
    return total


def microseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


def wrk(port, requests, seconds, process, method="GET", body=None):
    """Requests a second, p50 and p99 in microseconds, and the server's processor time a request, at full load."""
    environment = {**os.environ, "REQUESTS": str(requests), "METHOD": method, **({"BODY": body} if body else {})}
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", str(HERE / "requests.lua"),
               f"http://127.0.0.1:{port}/"]
    before = cpu_seconds(process)
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    spent = cpu_seconds(process) - before
    out = done.stdout
    if done.returncode != 0 or "Non-2xx" in out or "Socket errors" in out:
        sys.exit(f"wrk failed:\n{out}{done.stderr}")
    count = int(re.search(r"(\d+) requests in", out).group(1))
    return {
        "rps": float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)),
        "p50_us": microseconds(re.search(r"(?m)^ +50%\s+(\S+)", out).group(1)),
        "p99_us": microseconds(re.search(r"(?m)^ +99%\s+(\S+)", out).group(1)),
        "cpu_us": spent / count * 1e6,
    }


def at_rate(port, path, header, rate, seconds, log):
    """p50 and p99 in microseconds where so many requests a second are asked, whether they are answered or not."""
    log.unlink(missing_ok=True)
    command = ["h2load", "--h1", "-t1", f"-c{CONNECTIONS}", f"-D{seconds}", "--warm-up-time=1", f"--rps={rate / CONNECTIONS:.0f}",
               f"--log-file={log}", "-H", header, f"http://127.0.0.1:{port}{path}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"h2load failed:\n{done.stdout}{done.stderr}")
    times = []
    for line in open(log):
        _, status, took = line.split()
        if status != "200":
            sys.exit(f"h2load was answered {status}")
        times.append(int(took))
    times.sort()
    return {"rps": len(times) / seconds, "p50_us": times[len(times) // 2], "p99_us": times[len(times) * 99 // 100]}


def medians(samples):
    return {name: statistics.median(sample[name] for sample in samples) for name in samples[0]}


def in_turns(contenders, rounds, measure):
    """A B A B: each contender once a round. The medians by name; the first round only warms."""
    samples = {name: [] for name in contenders}
    for round in range(rounds + 1):
        for name, contender in contenders.items():
            sample = measure(contender)
            if round > 0:
                samples[name].append(sample)
    return {name: medians(of_one) for name, of_one in samples.items()}
