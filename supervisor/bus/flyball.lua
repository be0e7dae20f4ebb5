-- The server's half of the bus: what must happen in one step happens here.
-- The same text is loaded as a function library, or run by EVALSHA where the server has no functions.

-- What stands in a field may be anything: a number, or `otherwise`.
local function number(text, otherwise) return tonumber(text or '') or otherwise end

-- Only who holds the lease may speak. A supervisor that lost sight of the server and takes its own lease again gets a
-- new epoch, so that `seq` grows whatever was lost; what it sent just before is still its own word ('oldest').
-- returns the refusal, else nil, the epoch of the lease, and whether the ledger was compared since the lease began
local function fenced(key, epoch)
  local held = redis.call('HMGET', key, 'epoch', 'oldest', 'ledger')
  if not held[1] then return redis.error_reply('NOLEASE this server knows of no lease for this host') end
  local e, newest = number(epoch, -1), number(held[1], 0)
  if e <= newest and e >= number(held[2], newest) then return nil, newest, held[3] end
  return redis.error_reply('FENCED the lease of this host is at epoch ' .. held[1] .. ', not ' .. epoch)
end

local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- KEYS lease · ARGV holder (JSON), ttl ms, epoch that may be taken over although it lives ('' none), highest epoch known
-- Each taking is a new epoch above all that were used, also where the server lost its data, so `seq` never falls.
-- returns {1, epoch} or {0, epoch, holder}
local function acquire(KEYS, ARGV)
  local held = redis.call('HMGET', KEYS[1], 'epoch', 'holder', 'expires_ms', 'oldest')
  local epoch, expires, known, now = number(held[1], 0), number(held[3], 0), tonumber(ARGV[4]), now_ms()
  local ours = held[2] == ARGV[1] and expires > 0
  if not ours and expires > now and held[1] ~= ARGV[3] then return {0, held[1], held[2]} end
  local taken = string.format('%.0f', math.max(epoch, known) + 1)
  local oldest = taken
  if ours then oldest = held[4] elseif not held[1] and known > 0 then oldest = ARGV[4] end
  redis.call('HSET', KEYS[1], 'epoch', taken, 'oldest', oldest, 'holder', ARGV[1],
    'expires_ms', string.format('%.0f', now + tonumber(ARGV[2])))
  return {1, taken}
end

-- KEYS lease · ARGV epoch, ttl ms (0 gives it up)
local function renew(KEYS, ARGV)
  local refused = fenced(KEYS[1], ARGV[1])
  if refused then return refused end
  local ttl = tonumber(ARGV[2])
  redis.call('HSET', KEYS[1], 'expires_ms', ttl == 0 and '0' or string.format('%.0f', now_ms() + ttl))
  return 1
end

-- KEYS lease, status · ARGV epoch, the state as JSON ('' deletes it), ttl ms
local function report(KEYS, ARGV)
  local refused = fenced(KEYS[1], ARGV[1])
  if refused then return refused end
  if ARGV[2] == '' then return redis.call('DEL', KEYS[2]) end
  return redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
end

-- KEYS lease, samples · ARGV epoch, boot, tick, age ms to keep, then the entry's fields
-- A tick that is in the stream already is not added again, so a lost reply may be repeated.
local function publish(KEYS, ARGV)
  local refused = fenced(KEYS[1], ARGV[1])
  if refused then return refused end
  local last = redis.call('HMGET', KEYS[1], 'boot', 'tick')
  if last[1] == ARGV[2] and tonumber(ARGV[3]) <= number(last[2], -1) then return '' end
  redis.call('HSET', KEYS[1], 'boot', ARGV[2], 'tick', ARGV[3])
  local oldest = string.format('%.0f', now_ms() - tonumber(ARGV[4]))
  return redis.call('XADD', KEYS[2], 'MINID', '~', oldest, '*', unpack(ARGV, 5))
end

local CLEANUP = {none = 0, soft = 1, hard = 2, emergency = 3}

-- Lua's own comparison depends on the server's locale, Python's does not.
local function name_before(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- An override before all others, then the slowest, then by the issuer's name.
local function before(a, b)
  local over_a, over_b = a.overrides == true, b.overrides == true
  if over_a ~= over_b then return over_a end
  if a.speed ~= b.speed then return a.speed < b.speed end
  return name_before(a.issuer, b.issuer)
end

local ACTION = {run = true, throttle = true, pause = true}

-- A demand, or nil: whatever else stands in the hash must not keep the others from being heard.
local function read_demand(text)
  local ok, d = pcall(cjson.decode, text)
  if not ok or type(d) ~= 'table' or type(d.speed) ~= 'number' or type(d.issuer) ~= 'string' then return nil end
  if not ACTION[d.action] or not (d.speed >= 0 and d.speed <= 1) then return nil end
  for _, name in ipairs({'reason', 'cause'}) do
    if type(d[name]) ~= 'string' then d[name] = '' end
  end
  if not CLEANUP[d.cleanup] then d.cleanup = 'none' end
  return d
end

-- What the demands come to, with the strongest cleanup; schemas/demand.py:standing is the same rule.
local function standing(key)
  local slowest, cleanup = nil, 'none'
  for _, text in ipairs(redis.call('HVALS', key)) do
    local demand = read_demand(text)
    if demand then
      if not slowest or before(demand, slowest) then slowest = demand end
      if CLEANUP[demand.cleanup] > CLEANUP[cleanup] then cleanup = demand.cleanup end
    end
  end
  if slowest then return slowest, cleanup end
  -- Nobody will renew this one, so it stands for good: ttl_s 0.
  return {action = 'run', speed = 1, reason = 'nobody demands anything', cause = '', ttl = 0}, 'none'
end

local function add_event(c, id, type, subject, text, data)
  redis.call('XADD', c.events, 'MAXLEN', '~', c.events_kept, '*', 'id', id, 'type', type, 'source', c.issuer,
    'subject', subject, 'time', c.time, 'text', text, 'data', data)
end

-- Derive, retain and say the directive of one target, if it changed; returns its JSON or nil.
local function issue(c, target, next_id)
  local wanted, cleanup = standing(target.demands)
  local was = redis.call('HMGET', target.directive, 'action', 'speed', 'cleanup', 'seq', 'reason')
  local speed = string.format('%.4g', wanted.speed)
  local reason = wanted.reason
  if not string.find(reason, c.mark, 1, true) then reason = c.mark .. ': ' .. reason end
  if was[1] == wanted.action and was[2] == speed and was[3] == cleanup and was[5] == reason then return nil end
  local id = next_id()
  local base = c.epoch * 4294967296
  local seq = string.format('%.0f', math.max(number(was[4], 0), base) + 1)
  local ttl = wanted.ttl or c.ttl
  local cause = wanted.cause
  if cause == '' then cause = c.input end
  local json = '{"id":"' .. id .. '","seq":' .. seq .. ',"time":' .. cjson.encode(c.time) .. ',"host":' .. cjson.encode(c.host)
    .. ',"target":' .. cjson.encode(target.name) .. ',"action":"' .. wanted.action .. '","speed":' .. speed
    .. ',"cleanup":"' .. cleanup .. '","reason":' .. cjson.encode(reason) .. ',"cause":' .. cjson.encode(cause)
    .. ',"ttl_s":' .. ttl .. '}'
  local text = target.name .. ': ' .. wanted.action
  if wanted.action == 'throttle' then text = text .. ' to speed ' .. speed end
  if cleanup ~= 'none' then text = text .. ', ' .. cleanup .. ' cleanup' end
  text = text .. '; ' .. reason
  redis.call('HSET', target.directive, 'id', id, 'seq', seq, 'time', c.time, 'host', c.host, 'target', target.name,
    'action', wanted.action, 'speed', speed, 'cleanup', cleanup, 'reason', reason, 'cause', cause, 'ttl_s', ttl)
  add_event(c, id, 'flyball.directive.issued', target.name, text, json)
  redis.call('PUBLISH', 'flyball:throttle:' .. c.host .. ':' .. target.name, json)
  if (was[1] == 'pause') ~= (wanted.action == 'pause') then
    redis.call('PUBLISH', 'flyball:pause:' .. c.host .. ':' .. target.name, json)
  end
  return json
end

-- How each kind of change of the ledger is made: (what surrounds it, the change, KEYS, id of its event) → JSON of the answer.
-- ledger.lua fills it.
local CHANGE = {}

-- KEYS lease, events, then whatever the payload names by index · ARGV[1] the payload (MessagePack, see commit.py)
-- returns {1, {JSON of each directive issued}, {JSON of the answer to each change of the ledger}}; where this was committed
-- already {0, {}, {the answers that were given then}}
local function commit(KEYS, ARGV)
  local p = cmsgpack.unpack(ARGV[1])
  local epoch, token, issuer, input, ordinal, host, time, ttl, events_kept, mark, remembered_ms = unpack(p[1])
  local refused, newest, ledger_known = fenced(KEYS[1], epoch)
  if refused then return refused end
  if token ~= 0 then
    -- answers are kept with the token, which is then set at the end
    local known = #p[6] > 0 and redis.call('GET', KEYS[token])
    if known or #p[6] == 0 and not redis.call('SET', KEYS[token], '', 'NX', 'PX', remembered_ms) then
      for _, a in ipairs(p[5]) do redis.call('XACK', KEYS[a[1]], a[2], unpack(a[3])) end
      return {0, {}, known and cmsgpack.unpack(known) or {}}
    end
  end
  local c = {epoch = newest, issuer = issuer, input = input, host = host, time = time, ttl = ttl, events = KEYS[2],
    events_kept = events_kept, mark = mark, lease = KEYS[1], ledger_known = ledger_known}
  for _, a in ipairs(p[2]) do redis.call('XADD', KEYS[a[1]], 'MAXLEN', '~', a[2], '*', unpack(a[3])) end
  local touched, order = {}, {}
  for _, d in ipairs(p[3]) do
    if d[4] == '' then redis.call('HDEL', KEYS[d[1]], d[3]) else redis.call('HSET', KEYS[d[1]], d[3], d[4]) end
    if not touched[d[1]] then
      touched[d[1]] = {demands = KEYS[d[1]], directive = KEYS[d[1] + 1], name = d[2]}
      order[#order + 1] = d[1]
    end
  end
  for _, r in ipairs(p[4]) do
    if #r[2] == 0 then redis.call('DEL', KEYS[r[1]]) else
      redis.call('HSET', KEYS[r[1]], unpack(r[2]))
      if r[3] > 0 then redis.call('PEXPIRE', KEYS[r[1]], r[3]) end
    end
  end
  local function next_id()
    ordinal = ordinal + 1
    return string.sub(redis.sha1hex(issuer .. '|' .. input .. '|' .. (ordinal - 1)), 1, 20)
  end
  local answers, directives = {}, {}
  for i, packed in ipairs(p[6]) do answers[i] = CHANGE[packed[2]](c, packed, KEYS, next_id()) end
  for _, key in ipairs(order) do
    local json = issue(c, touched[key], next_id)
    if json then directives[#directives + 1] = json end
  end
  for _, m in ipairs(p[7]) do redis.call('PUBLISH', m[1], m[2]) end
  if token ~= 0 and #answers > 0 then redis.call('SET', KEYS[token], cmsgpack.pack(answers), 'PX', remembered_ms) end
  for _, a in ipairs(p[5]) do redis.call('XACK', KEYS[a[1]], a[2], unpack(a[3])) end
  return {1, directives, answers}
end

-- KEYS lease, directives · ARGV epoch · says every standing directive again; returns how many
local function announce(KEYS, ARGV)
  local refused = fenced(KEYS[1], ARGV[1])
  if refused then return refused end
  local said = 0
  for i = 2, #KEYS do
    local f = redis.call('HMGET', KEYS[i], 'id', 'seq', 'time', 'host', 'target', 'action', 'speed', 'cleanup', 'reason', 'cause', 'ttl_s')
    local whole = true
    for j = 1, 11 do whole = whole and f[j] end
    if whole then
      redis.call('PUBLISH', 'flyball:throttle:' .. f[4] .. ':' .. f[5], '{"id":"' .. f[1] .. '","seq":' .. f[2] .. ',"time":"' .. f[3]
        .. '","host":"' .. f[4] .. '","target":"' .. f[5] .. '","action":"' .. f[6] .. '","speed":' .. f[7] .. ',"cleanup":"' .. f[8]
        .. '","reason":' .. cjson.encode(f[9]) .. ',"cause":' .. cjson.encode(f[10]) .. ',"ttl_s":' .. f[11] .. '}')
      said = said + 1
    end
  end
  return said
end
