-- Units: see state.lua. What acquire.lua needs for few claims: plans that have changed, and open declared claims.

local t = limit_functions()
t.open_claims = open_functions
return t
