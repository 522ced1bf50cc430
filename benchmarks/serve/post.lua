-- Posts the bodies of a directory in turn; says what it measured in one line of JSON, times in microseconds.
-- wrk -s post.lua <url> -- <content type> <directory> <number of bodies> [milliseconds before each request]

local bodies, turn = {}, 0

function init(args)
  for number = 1, tonumber(args[3]) do
    local file = assert(io.open(args[2] .. "/" .. (number - 1), "rb"))
    bodies[number] = wrk.format("POST", nil, {["Content-Type"] = args[1]}, file:read("*a"))
    file:close()
  end
  local pause = tonumber(args[4] or 0)
  if pause > 0 then
    function delay() return pause end
  end
end

function request()
  turn = turn % #bodies + 1
  return bodies[turn]
end

function done(summary, latency)
  local line = '{"requests":%d,"duration":%d,"p50":%d,"p99":%d,"max":%d,'
    .. '"status":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}\n'
  local errors = summary.errors
  io.write(line:format(summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
