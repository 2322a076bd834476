-- Says where a score would be that was reached now.
--
-- KEYS     1 ranking (zset)  2 players (hash)
-- ARGV     1 form  2 viewer, or ''  3 score
-- returns  {} when the projection is not complete, otherwise {rows there are, rows with a score as good, rows with a better one};
--          the second is -2 when some of those may be behind the floor
if p.score and tonumber(ARGV[3]) >= tonumber(p.score) then
  return {count, -2, 0}
end
return {count, better(ARGV[3], ''), better(ARGV[3])}
