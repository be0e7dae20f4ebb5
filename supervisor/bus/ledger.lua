-- The ledger of reservations: a hash, allocation id → reservation as JSON; follows flyball.lua in one text.
-- A reservation stays the JSON that it came as, and is never written anew from a decoded one: cjson rounds large numbers.

local RESERVATIONS_MOST = 1024
local HOLDERS_MOST = 16

-- Decoded texts: a library keeps them from call to call, so that a long ledger is not decoded at every request.
local decoded, decoded_count, DECODED_MOST = {}, 0, 2048

-- JSON as a table, never to be changed; nil where it is none.
local function decode(text)
  local known = decoded[text]
  if known then return known end
  local ok, value = pcall(cjson.decode, text)
  if not ok or type(value) ~= 'table' then return nil end
  if decoded_count >= DECODED_MOST then decoded, decoded_count = {}, 0 end
  decoded[text], decoded_count = value, decoded_count + 1
  return value
end

-- A reservation with its own text, or nil where something else stands there.
local function read_reservation(text)
  local r = decode(text)
  if not r or r.json then return r end
  if type(r.parts) ~= 'table' or type(r.request) ~= 'string' or type(r.owner) ~= 'string' then return nil end
  for _, bytes in pairs(r.parts) do
    if type(bytes) ~= 'number' then return nil end
  end
  r.json = text
  return r
end

-- All reservations by allocation id, how many entries there are, and the name of one that cannot be read, if any.
local function read_ledger(key)
  local flat, ledger, unreadable = redis.call('HGETALL', key), {}, nil
  for i = 1, #flat, 2 do
    local r = read_reservation(flat[i + 1])
    if r then ledger[flat[i]] = r else unreadable = flat[i] end
  end
  return ledger, #flat / 2, unreadable
end

-- What could be had of a target, and what the rest is: {free, limit, reserve, reserved, others}, in bytes; nil where that
-- is unknown. handlers/memory/capacity.py:room is the same rule.
local function room(capacity, target, ledger)
  local f = redis.call('HMGET', capacity, 'limit_bytes', 'reserve_bytes', 'used_bytes', 'held')
  local limit, reserve, used = tonumber(f[1] or ''), tonumber(f[2] or ''), tonumber(f[3] or '')
  local ok, held = pcall(cjson.decode, f[4] or '')  -- it is another one each second, and not worth keeping
  if not (limit and reserve and used and ok and type(held) == 'table') then return nil end
  local reserved, own = 0, 0
  for _, r in pairs(ledger) do
    local part = r.parts[target]
    if part then
      reserved = reserved + part
      own = own + math.min(part, tonumber(held[r.request]) or 0)
    end
  end
  local others = math.max(0, used - own)
  return {free = limit - reserve - reserved - others, limit = limit, reserve = reserve, reserved = reserved, others = others}
end

local function mib(bytes) return string.format('%.10g MiB', math.floor(bytes / 10485.76) / 100) end

local function named(target) return target == 'host' and 'RAM' or target end

-- '2048 MiB of gpu0 and 512 MiB of RAM'; parts are {target, bytes}
local function described(parts)
  local said = {}
  for i, part in ipairs(parts) do said[i] = mib(part[2]) .. ' of ' .. named(part[1]) end
  return table.concat(said, ' and ')
end

-- The parts of a reservation in the order of their targets.
local function parts_of(reservation)
  local parts = {}
  for target, bytes in pairs(reservation.parts) do parts[#parts + 1] = {target, bytes} end
  table.sort(parts, function(a, b) return name_before(a[1], b[1]) end)
  return parts
end

local MEMORY_EVENT = {reserved = 'reserved', denied = 'denied', duplicate = 'denied', started = 'start_finished',
  released = 'released', expired = 'expired'}

-- Say what became of a change to everybody; returns it as JSON. `is_news` false: it was an event before.
local function tell(c, l, outcome, text, json, is_news)
  if MEMORY_EVENT[outcome] and is_news then
    add_event(c, l.event, 'flyball.memory.' .. MEMORY_EVENT[outcome], l.id, text, json)
  end
  redis.call('PUBLISH', 'flyball:memory:' .. c.host, json)
  return json
end

-- The same with a LedgerAnswer made of its parts; `available` and `holders` are JSON.
local function answer(c, l, outcome, text, reservation, available, holders, is_news)
  text = l.id .. ': ' .. text
  if not string.find(text, c.mark, 1, true) then text = c.mark .. ': ' .. text end
  local json = '{"request":' .. cjson.encode(l.request) .. ',"allocation_id":' .. cjson.encode(l.id) .. ',"outcome":"'
    .. outcome .. '","text":' .. cjson.encode(text) .. ',"reservation":' .. (reservation and reservation.json or 'null')
    .. ',"available":{' .. (available or '') .. '},"holders":[' .. (holders or '') .. ']}'
  return tell(c, l, outcome, text, json, is_news ~= false)
end

-- The largest reservations that have a part of what is asked for: as JSON, and in words.
local function holders_of(l, ledger)
  local holding = {}
  for id, r in pairs(ledger) do
    local bytes = 0
    for _, part in ipairs(l.parts) do bytes = bytes + (r.parts[part[1]] or 0) end
    if bytes > 0 then holding[#holding + 1] = {id = id, bytes = bytes, json = r.json} end
  end
  table.sort(holding, function(a, b)
    if a.bytes ~= b.bytes then return a.bytes > b.bytes end
    return name_before(a.id, b.id)
  end)
  local json, words = {}, {}
  for i = 1, math.min(#holding, HOLDERS_MOST) do
    json[i], words[i] = holding[i].json, holding[i].id .. ' (' .. mib(holding[i].bytes) .. ')'
  end
  if #holding > 4 then words = {words[1], words[2], words[3], (#holding - 3) .. ' more'} end
  return table.concat(json, ','), table.concat(words, ', ')
end

-- Why a reservation may not be, whatever is free; nil where nothing is against it.
local function objection(c, l, ledger, count, unreadable)
  if l.reason ~= '' then return l.reason end
  local late_ms = l.entered_ms > 0 and now_ms() - l.entered_ms or 0
  if late_ms > l.valid_ms then
    return string.format('it was asked %.0f s ago, and was valid for %.0f s; ask again', late_ms / 1000, l.valid_ms / 1000)
  end
  if not c.ledger_known then return 'what is reserved is not known yet; ask again in a second' end
  if unreadable then
    return 'the entry ' .. unreadable .. ' of the ledger cannot be read; release it, then ask again'
  end
  if count >= RESERVATIONS_MOST then return 'there are ' .. RESERVATIONS_MOST .. ' reservations, as many as may be' end
  if not l.exclusive_start then return nil end
  for id, r in pairs(ledger) do
    for _, part in ipairs(l.parts) do
      if r.starting == true and part[1] ~= 'host' and r.parts[part[1]] then
        return id .. ' of ' .. r.owner .. ' is in its start-up on ' .. part[1] .. '; ask again when it has started'
      end
    end
  end
end

-- JSON of what is left of each part's target; `taken` says whether the parts have just been granted.
local function left(parts, rooms, taken)
  local known = {}
  for i, part in ipairs(parts) do
    if rooms[i] then
      local free = math.max(0, rooms[i].free - (taken and part[2] or 0))
      known[#known + 1] = cjson.encode(part[1]) .. ':' .. string.format('%.0f', math.floor(free))
    end
  end
  return table.concat(known, ',')
end

-- Why there is no room; nil where there is.
local function shortage(parts, rooms)
  for i, part in ipairs(parts) do
    local target, r = named(part[1]), rooms[i]
    if not r then return 'what is free of ' .. target .. ' is not known, for there is no fresh reading of it' end
    if r.free < part[2] then
      return string.format('%s of %s can be had: of %s, %s are kept free, %s reserved and %s used by others',
        mib(math.max(0, r.free)), target, mib(r.limit), mib(r.reserve), mib(r.reserved), mib(r.others))
    end
  end
end

local function reserve(c, l)
  local ledger, count, unreadable = read_ledger(l.ledger)
  local there, rooms, wanted = ledger[l.id], {}, described(l.parts)
  for i, part in ipairs(l.parts) do rooms[i] = room(part[3], part[1], ledger) end
  if there and there.request == l.request then
    return answer(c, l, 'reserved', wanted .. ' are reserved for ' .. l.owner, there, left(l.parts, rooms), '', false)
  end
  local why = not there and (objection(c, l, ledger, count, unreadable) or shortage(l.parts, rooms))
  if there or why then
    local json, words = holders_of(l, ledger)
    if there then
      local text = 'denied to ' .. l.owner .. ': there is a reservation of that name, of ' .. there.owner
      return answer(c, l, 'duplicate', text, there, left(l.parts, rooms), json)
    end
    if words ~= '' then why = why .. '; reserved: ' .. words end
    return answer(c, l, 'denied', wanted .. ' denied to ' .. l.owner .. ': ' .. why, nil, left(l.parts, rooms), json)
  end
  redis.call('HSET', l.ledger, l.id, l.reservation)
  return answer(c, l, 'reserved', wanted .. ' reserved for ' .. l.owner, {json = l.reservation}, left(l.parts, rooms, true))
end

-- The reservation that a change is about; nil where there is none, or not the one that is meant.
local function find(l)
  local text = redis.call('HGET', l.ledger, l.id)
  local r = text and (read_reservation(text) or {parts = {}, request = ''})
  if r and l.of ~= '' and r.request ~= l.of then return nil end
  return r
end

local function unknown(c, l) return answer(c, l, 'unknown', 'there is no reservation of that name') end

local function release(c, l)
  local there = find(l)
  if not there then return unknown(c, l) end
  redis.call('HDEL', l.ledger, l.id)
  local what = described(parts_of(there))
  if l.reason == '' then return answer(c, l, 'released', what .. ' given back', there) end
  return answer(c, l, 'expired', what .. ' are free again: ' .. l.reason, there)
end

local function started(c, l)
  local there = find(l)
  if not (there and there.json) then return unknown(c, l) end
  local was, text = there.starting == true, there.json
  if was then
    text = string.gsub(text, '"starting":true', '"starting":false', 1)  -- inside a string the quotes would be escaped
    redis.call('HSET', l.ledger, l.id, text)
  end
  return answer(c, l, 'started', (there.owner or '') .. ' has started', {json = text}, nil, nil, was)
end

-- What was answered before, on a server that has lost it.
local function settled(c, l)
  if l.outcome == 'reserved' or l.outcome == 'started' then
    redis.call('HSET', l.ledger, l.id, l.reservation)
  elseif (l.outcome == 'released' or l.outcome == 'expired') and find(l) then
    redis.call('HDEL', l.ledger, l.id)
  end
  return tell(c, l, l.outcome, l.text, l.answer, true)
end

-- The ledger against what the supervisor takes it to hold, which is right only where the server has lost its data.
local function reconcile(c, l)
  local stood, known = redis.call('HGETALL', l.ledger), {}
  local requests, count, restored = {}, 0, {}
  for i = 1, #stood, 2 do
    local r = read_reservation(stood[i + 1])
    requests[stood[i]], count = r and r.request or '', count + 1
  end
  local same = true
  for _, one in ipairs(l.known) do
    local id, request, json = unpack(one)
    if not c.ledger_known and not requests[id] then
      redis.call('HSET', l.ledger, id, json)
      restored[#restored + 1] = id
    elseif requests[id] ~= request then
      same = false
    end
    known[id] = true
  end
  redis.call('HSET', c.lease, 'ledger', 'known')
  c.ledger_known = true
  for id in pairs(requests) do same = same and known[id] == true end
  if same and #restored == 0 then return '' end
  local standing_now = {}
  for _, text in ipairs(redis.call('HVALS', l.ledger)) do
    if read_reservation(text) then standing_now[#standing_now + 1] = text end
  end
  local text = 'the ledger holds ' .. #standing_now .. ' reservations'
  if #restored > 0 then
    text = text .. '; the bus had lost ' .. #restored .. ' of them: ' .. table.concat(restored, ', ', 1, math.min(#restored, 10))
  else
    text = text .. ', which the supervisor did not know'
  end
  if not string.find(text, c.mark, 1, true) then text = c.mark .. ': ' .. text end
  local quoted = {}
  for i, id in ipairs(restored) do quoted[i] = cjson.encode(id) end
  add_event(c, l.event, 'flyball.memory.ledger_read', c.host, text, '{"reservations":[' .. table.concat(standing_now, ',')
    .. '],"restored":[' .. table.concat(quoted, ',') .. '],"cause":' .. cjson.encode(l.request) .. '}')
  return ''
end

-- A change as supervisor/bus/ledger.py packs it, with the keys in place of their indices.
local function read_change(packed, KEYS)
  local l = {}
  l.ledger, l.kind, l.request, l.id, l.reason, l.of, l.owner, l.parts, l.exclusive_start, l.entered_ms, l.valid_ms,
    l.reservation, l.known, l.outcome, l.text, l.answer = unpack(packed)
  l.ledger = KEYS[l.ledger]
  for _, part in ipairs(l.parts) do part[3] = KEYS[part[3]] end
  return l
end

local function made_by(change)
  return function(c, packed, KEYS, event)
    local l = read_change(packed, KEYS)
    l.event = event
    return change(c, l)
  end
end

-- One by one: while a library is loaded there is no `pairs`.
CHANGE.reserve, CHANGE.release, CHANGE.started = made_by(reserve), made_by(release), made_by(started)
CHANGE.settled, CHANGE.reconcile = made_by(settled), made_by(reconcile)
