-- Goes round the requests of the file REQUESTS: a line each, its path, a tab, its one header.
local prepared = {}
local next_one = 0

function init(_)
  for line in io.lines(os.getenv("REQUESTS")) do
    local path, name, value = line:match("^(%S+)\t([%w-]+): (.*)$")
    prepared[#prepared + 1] = wrk.format(os.getenv("METHOD") or "GET", path, { [name] = value }, os.getenv("BODY"))
  end
  math.randomseed(os.time())
  next_one = math.random(#prepared)
end

function request()
  next_one = next_one % #prepared + 1
  return prepared[next_one]
end
