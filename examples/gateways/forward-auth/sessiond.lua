-- Asks sessiond about the end user of a request. Sets txn.auth_status, txn.user_id and
-- txn.session_id.
local FORWARD_AUTH = "http://127.0.0.1:8081/service/v1/forward-auth"
local PASSED_ON = { "authorization", "cookie", "sec-fetch-site", "origin" }

core.register_action("forward-auth", { "http-req" }, function(txn)
    local sent = txn.http:req_get_headers()
    local headers = { ["x-forwarded-method"] = { txn.f:method() } }
    for _, name in ipairs(PASSED_ON) do
        if sent[name] then
            headers[name] = {}
            for _, value in pairs(sent[name]) do
                table.insert(headers[name], value)
            end
        end
    end
    txn:set_var("txn.auth_status", 503)
    local response = core.httpclient():get { url = FORWARD_AUTH, headers = headers, timeout = 1500 }
    if not response or not response.status then
        return
    end
    txn:set_var("txn.auth_status", response.status)
    if response.status == 204 then
        txn:set_var("txn.user_id", response.headers["x-user-id"][0])
        txn:set_var("txn.session_id", response.headers["x-session-id"][0])
    end
end)
