// An OpenID provider with its own login form, which accepts any name.
//
// Its arguments: the port, the client's id and secret, and the client's redirect URI. It prints a line once it listens.

import { Provider } from "oidc-provider";

const [port, clientId, clientSecret, redirectUri] = process.argv.slice(2);
const claimsOf = (name) => ({
  sub: name,
  email: `${name}@example.org`,
  email_verified: true,
  groups: ["users"],
});

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id: clientId,
      client_secret: clientSecret,
      redirect_uris: [redirectUri],
      userinfo_signed_response_alg: "RS256",
    },
  ],
  claims: { openid: ["sub"], email: ["email", "email_verified"], groups: ["groups"] },
  findAccount: (context, name) => ({ accountId: name, claims: () => claimsOf(name) }),
  // A client that names the API as its resource gets a JWT for it, and any other an opaque access token.
  extraTokenClaims: (context, token) => (token.resourceServer ? claimsOf(token.accountId) : undefined),
  features: {
    jwtUserinfo: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (context, audience) => ({ audience, scope: "report", accessTokenFormat: "jwt" }),
    },
  },
});

provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
