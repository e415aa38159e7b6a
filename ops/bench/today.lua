-- wrk's script: every request is /today of some reader, as a webhook update with an id of its own.
--
-- Arguments: the secret, the update with %d for its id, its message, the reader and the chat, the id to begin
-- after, the first reader, how many readers there are, and what a good answer contains (anything, when empty).

local threads = {}

function setup(thread)
   table.insert(threads, thread)
end

function init(args)
   template, update, first, readers, expected =
      args[2], tonumber(args[3]), tonumber(args[4]), tonumber(args[5]), args[6]
   right, wrong = 0, 0
   math.randomseed(update)
   wrk.method = "POST"
   wrk.headers["Content-Type"] = "application/json"
   wrk.headers["X-Telegram-Bot-Api-Secret-Token"] = args[1]
end

function request()
   update = update + 1
   local reader = first + math.random(0, readers - 1)
   return wrk.format(nil, nil, nil, string.format(template, update, update, reader, reader))
end

function response(status, _, body)
   if status == 200 and string.find(body, expected, 1, true) then
      right = right + 1
   else
      wrong = wrong + 1
   end
end

function done(summary, latency, _)
   local thread = threads[1] -- the ids are distinct in one thread only
   local broken = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
   io.write(string.format(
      '\n{"right": %d, "wrong": %d, "broken": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f}\n',
      thread:get("right"), thread:get("wrong"), broken, summary.duration / 1e6,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
