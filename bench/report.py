"""RESULTS.md and its chart, from results.json."""

from machine import HERE

# Of the read paths: ratio of two medians of one run.
RATIOS = [
    ("near", "throughput", "constant", "near-cache hit, of the constant answer", 0.90),
    ("redis", "throughput", "bare GET", "Redis hit, of the bare Redis `GET` behind axum", 0.95),
    ("database", "throughput", "pgbench -S", "database miss, of `pgbench -S -M prepared`", 0.50),
]


def thousands(number):
    return f"{number:,.0f}".replace(",", " ")


def verdict(met):
    return "met" if met else "**missed**"


def table(head, rows):
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join(lines + [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows])


def targets(results):
    """What was aimed at, what came out, whether that is it."""
    rows = []

    def row(what, target, measured, met):
        rows.append((what, target, measured, verdict(met)))

    for part, kind, limit, what, least in RATIOS:
        if part in results:
            ratio = results[part][kind]["sessiond"]["rps"] / results[part][kind][limit]["rps"]
            row(what, f"at least {least:.2f}", f"{ratio:.2f}", ratio >= least)
    if "peers" in results:
        of = results["peers"]["throughput"]
        name, fastest = max(((name, one["rps"]) for name, one in of.items() if not name.startswith("sessiond")), key=lambda one: one[1])
        for ours, least in [("sessiond", 1.5), ("sessiond, no near cache", 0.95)]:
            ratio = of[ours]["rps"] / fastest
            row(f"{ours}, of the fastest peer ({name})", f"at least {least:.2f}", f"{ratio:.2f}", ratio >= least)
    if "near" in results:
        of = results["near"]["half_rate"]
        ratio = of["sessiond"]["p99_us"] / of["constant"]["p99_us"]
        row("p99 at half of the maximum rate, of the constant answer's", "at most 1.5", f"{ratio:.2f}", ratio <= 1.5)
    if "redis" in results:
        size = results["redis"]["bytes_per_session"]
        row("a session in Redis (`MEMORY USAGE`)", "at most 300 bytes", f"{size:.0f} bytes", size <= 300)
    if "micro" in results:
        size, handler = results["micro"]["bytes_per_entry"], results["micro"]["ns"]["get_session/near"]
        row("near cache, resident memory per entry, of a million", "at most 500 bytes", f"{size:.0f} bytes", size <= 500)
    if "growth" in results:
        for kind, what in [("read", "database miss"), ("list", "first page of a list")]:
            of = results["growth"][kind]
            slower, later = of["small"]["rps"] / of["large"]["rps"], of["large"]["p50_us"] / of["small"]["p50_us"]
            size = thousands(results["growth"]["rows"])
            row(f"{what}, 10 000 rows against {size}: throughput, p50", "at most 1.2", f"{slower:.2f}, {later:.2f}", max(slower, later) <= 1.2)
    if "revoke_all" in results:
        of = results["revoke_all"]
        without = of["ms"] - of["ms_of_one_session"]
        row("the end of 10 000 sessions of a user, besides the wait", "at most 500 ms",
            f"{without:.0f} ms ({of['ms']:.0f} ms with it)", without <= 500)
        row("its writes to the log, and commands to Redis in that time", "do not grow",
            f"{of['log_rows']:.0f}, {of['redis_commands']:.0f}", of["log_rows"] < 10 and of["redis_commands"] < 1000)
    if "activity" in results:
        of = results["activity"]
        row("touches a second", "at least 20 000", thousands(of["rps"]), of["rps"] >= 20_000)
        row("database statements a second meanwhile", "at most 200", thousands(of["statements_per_second"]), of["statements_per_second"] <= 200)
    if "cleanup" in results:
        of = results["cleanup"]
        for name, what in [("caches", "answered from caches"), ("database", "answered from the database")]:
            before, during = of["p99_us"][name]["before"], of["p99_us"][name]["during"]
            row(f"p99 of reads {what} while {thousands(of['deleted'])} sessions are cleared away ({of['seconds']:.0f} s), of the one before", "at most 1.5",
                f"{during / before:.2f} ({thousands(before)}, {thousands(during)} µs)", during / before <= 1.5)
    if "start" in results:
        of = results["start"]
        row("start to ready, embedded", "at most 150 ms", f"{of['ms']:.0f} ms", of["ms"] <= 150)
        row("resident memory at rest", "at most 40 MiB", f"{of['resident_mib']:.0f} MiB", of["resident_mib"] <= 40)
        row("stripped binary", "at most 30 MiB", f"{of['binary_mib']:.1f} MiB", of["binary_mib"] <= 30)
    if "micro" in results:
        row("`GetSessionHandler` over ports in memory", "at most 1 µs", f"{handler:.0f} ns", handler <= 1000)
    return rows


def throughput_rows(results):
    rows = []
    for part in ["near", "redis", "database", "peers"]:
        for name, one in results.get(part, {}).get("throughput", {}).items():
            latency = [thousands(one[key]) if key in one else "" for key in ("p50_us", "p99_us")]
            cpu = f"{one['cpu_us']:.1f}" if "cpu_us" in one else ""
            rows.append((part, name, thousands(one["rps"]), *latency, cpu))
    return rows


def chart(results):
    """Requests a second as bars: ours in colour."""
    bars = [(name, one["rps"]) for part in ("near", "redis", "peers") for name, one in results.get(part, {}).get("throughput", {}).items()
            if part == "peers" or not name.startswith("sessiond")]
    bars.sort(key=lambda bar: -bar[1])
    most = max(value for _, value in bars)
    height = 34 * len(bars) + 44
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{height}" font-family="system-ui, sans-serif" font-size="14">',
             f'<rect width="760" height="{height}" fill="#fff"/>',
             '<text x="16" y="26" font-weight="600">One session, read by its cookie or token: requests a second</text>']
    for index, (name, value) in enumerate(bars):
        y, width = 44 + 34 * index, max(2, value / most * 420)
        colour = "#0b7285" if name.startswith("sessiond") else "#adb5bd"
        parts.append(f'<text x="186" y="{y + 17}" text-anchor="end">{name}</text>'
                     f'<rect x="196" y="{y}" width="{width:.0f}" height="24" rx="3" fill="{colour}"/>'
                     f'<text x="{196 + width + 8:.0f}" y="{y + 17}">{thousands(value)}</text>')
    return "\n".join(parts + ["</svg>\n"])


def write(results):
    text = f"""# Results

Made by `just bench` ([what it does](README.md)). {results['machine']}. The load generator and all servers share those cores.

## What was aimed at

{table(("", "aim", "measured", ""), targets(results))}

## Throughput and latency at full load

16 connections that are kept open, {results['seconds']} s a turn, turns A B A B, the medians of {results['rounds']} rounds after one that only warms. Microseconds; the
last column is the processor time of the server's processes a request.

{table(("part", "who", "requests/s", "p50", "p99", "processor"), throughput_rows(results))}

![requests a second](results.svg)
"""
    if "near" in results:
        of = results["near"]["half_rate"]
        rows = [(name, thousands(one["rps"]), thousands(one["p50_us"]), thousands(one["p99_us"])) for name, one in of.items()]
        text += f"\n## Latency at half of sessiond's maximum rate\n\n{table(('who', 'requests/s', 'p50', 'p99'), rows)}\n"
    if "micro" in results:
        rows = [(name, f"{nanos:,.0f}") for name, nanos in results["micro"]["ns"].items()]
        text += f"\n## Parts of a read, nanoseconds\n\n{table(('part', 'ns'), rows)}\n"
    (HERE / "RESULTS.md").write_text(text)
    if "peers" in results:
        (HERE / "results.svg").write_text(chart(results))
