-- What wrk has measured, as one line of JSON.
function done(summary, latency)
    local e = summary.errors
    local seconds = summary.duration / 1e6
    print(string.format(
        '{"n":%d,"seconds":%.6f,"requests_per_s":%.1f,"p50_us":%d,"p99_us":%d,"p999_us":%d,"errors":%d}',
        summary.requests, seconds, summary.requests / seconds,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
        e.connect + e.read + e.write + e.status + e.timeout))
end
