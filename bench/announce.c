/* The least by which an address comes to a host: one message to the kernel, one gratuitous ARP.

   announce ADDRESS/PREFIX INTERFACE */
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct wish {
    struct nlmsghdr header;
    struct ifaddrmsg address;
    struct rtattr local_attribute;
    struct in_addr local;
    struct rtattr address_attribute;
    struct in_addr same;
};

static int add(struct in_addr address, int prefix, int index)
{
    const unsigned short length = RTA_LENGTH(sizeof address);
    struct wish wish = {
        .header = {.nlmsg_len = sizeof wish, .nlmsg_type = RTM_NEWADDR,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL},
        .address = {.ifa_family = AF_INET, .ifa_prefixlen = prefix, .ifa_index = index},
        .local_attribute = {length, IFA_LOCAL}, .local = address,
        .address_attribute = {length, IFA_ADDRESS}, .same = address,
    };
    struct { struct nlmsghdr header; struct nlmsgerr error; } answer;
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    if (send(fd, &wish, sizeof wish, 0) < 0 || recv(fd, &answer, sizeof answer, 0) < 0)
        return -1;
    return answer.error.error;
}

static int announce(struct in_addr address, const char *name, int index)
{
    /* ARP for IPv4 over Ethernet, a request, who has and who asks being the same. */
    unsigned char frame[60] = {[12] = 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1};
    struct sockaddr_ll place = {.sll_family = AF_PACKET, .sll_ifindex = index, .sll_halen = 6};
    struct ifreq interface = {0};
    int fd = socket(AF_PACKET, SOCK_RAW, htons(ETHERTYPE_ARP));
    strncpy(interface.ifr_name, name, sizeof interface.ifr_name - 1);
    if (ioctl(fd, SIOCGIFHWADDR, &interface))
        return -1;
    memset(frame, 0xff, 6);
    memcpy(frame + 6, interface.ifr_hwaddr.sa_data, 6);
    memcpy(frame + 22, interface.ifr_hwaddr.sa_data, 6);
    memcpy(frame + 28, &address, 4);
    memcpy(frame + 38, &address, 4);
    return sendto(fd, frame, sizeof frame, 0, (struct sockaddr *)&place, sizeof place) < 0;
}

int main(int argc, char **argv)
{
    struct in_addr address;
    char *prefix = argc == 3 ? strchr(argv[1], '/') : NULL;
    int index;
    if (!prefix)
        return 2;
    *prefix++ = 0;
    index = if_nametoindex(argv[2]);
    if (!index || !inet_aton(argv[1], &address))
        return 2;
    return add(address, atoi(prefix), index) || announce(address, argv[2], index);
}
