-- A script for wrk: in each request the next reader sends /today, as a webhook update with a new id. So no reader asks
-- twice within a second: the second answer would be a call, not a response.
--
-- Arguments:
--   1. the webhook's secret
--   2. the update as JSON, with %d for four ids: the update's, the message's, the reader's and the chat's
--   3. the id before the first update's
--   4. the first reader's id
--   5. the number of readers
--   6. words that a right answer contains; empty: every answer is right

local threads = {}

function setup(thread)
   table.insert(threads, thread)
end

function init(args)
   template, update, first, readers, expected =
      args[2], tonumber(args[3]), tonumber(args[4]), tonumber(args[5]), args[6]
   right, wrong = 0, 0
   wrk.method = "POST"
   wrk.headers["Content-Type"] = "application/json"
   wrk.headers["X-Telegram-Bot-Api-Secret-Token"] = args[1]
end

function request()
   update = update + 1
   local reader = first + update % readers
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
   local thread = threads[1] -- two threads would send the same ids
   local broken = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
   io.write(string.format(
      '\n{"right": %d, "wrong": %d, "broken": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f}\n',
      thread:get("right"), thread:get("wrong"), broken, summary.duration / 1e6,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
